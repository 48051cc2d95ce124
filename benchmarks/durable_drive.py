"""How durable operations are driven: one by one, by 64 callers at once, and in batches of 100; for a time, not a count.

Every subject is asked for the same: to note that a session was used, on the disk before the call returns, as far as its
settings promise. Subjects differ a thousandfold, so each gets the same time and what it did in it is counted.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from benchmarks.workload import key_of

CALLERS = 64
BATCH = 100

EACH = "nothing"
SECOND = "the last second"
CRASH_ONLY = "what the system has not written yet (30 s)"

Touch = Callable[[str], Any]
Rate = Callable[[float], float]
"""Works for so many seconds; returns how many events a second it did."""


def keys_of(sessions: int) -> list[str]:
    """The keys of so many sessions, shuffled: no index gets them in order."""
    keys = [key_of(number) for number in range(sessions)]
    random.Random(6).shuffle(keys)
    return keys


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: its name, what a power loss takes of what it has acknowledged, and how it is driven."""

    name: str
    loses: str
    one: Rate | None
    callers: Rate | None
    hundred: Rate | None
    note: str = ""


def driven(
    name: str,
    loses: str,
    keys: Sequence[str],
    touch: Touch,
    touches: Sequence[Touch],
    touch_many: Callable[[list[str]], Any],
    note: str,
) -> Subject:
    """A subject that is driven in all three ways; `touches` are the callers' own ways in."""
    ways = one_by_one(touch, keys), by_callers(touches, keys), in_batches(touch_many, keys)
    return Subject(name, loses, *ways, note)


def one_by_one(touch: Touch, keys: Sequence[str]) -> Rate:
    """One caller: the next touch when the one before has returned."""
    following = cycle(keys)

    def run(seconds: float) -> float:
        started, done = time.perf_counter(), 0
        end = started + seconds
        while time.perf_counter() < end:
            touch(next(following))
            done += 1
        return done / (time.perf_counter() - started)

    return run


def in_batches(touch_many: Callable[[list[str]], Any], keys: Sequence[str], batch: int = BATCH) -> Rate:
    """One caller, who hands over so many at a time; no key is in a batch twice."""
    batches = cycle([list(keys[start : start + batch]) for start in range(0, len(keys) - batch + 1, batch)])

    def run(seconds: float) -> float:
        started, done = time.perf_counter(), 0
        end = started + seconds
        while time.perf_counter() < end:
            touch_many(next(batches))
            done += batch
        return done / (time.perf_counter() - started)

    return run


def by_callers(touches: Sequence[Touch], keys: Sequence[str]) -> Rate:
    """So many threads at once, each with its own way in and its own keys, each waiting for its own answer."""
    shares = [cycle(keys[number :: len(touches)]) for number in range(len(touches))]

    def run(seconds: float) -> float:
        start = threading.Barrier(len(touches) + 1)

        def call(number: int) -> int:
            touch, following, done = touches[number], shares[number], 0
            start.wait()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                touch(next(following))
                done += 1
            return done

        with ThreadPoolExecutor(len(touches), "bench-caller") as pool:
            calls = [pool.submit(call, number) for number in range(len(touches))]
            start.wait()
            started = time.perf_counter()
            done = sum(each.result() for each in calls)
            return done / (time.perf_counter() - started)

    return run

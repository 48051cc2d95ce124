"""How long a test waits: for as long as the machine needs, however busy it is.

Three rules, and no test has a bound of its own beside them:

1. What must come is waited for, on a condition. `PATIENCE_S` only ends a test that hangs: it is far above what anything
   takes, on any machine, because the condition ends the wait.
2. A loop that asks for a condition again and again gives up by `paced_s`, a clock whose seconds are those of a quiet
   machine: where everything takes five times as long, its seconds do, too. `eventually` is such a loop.
3. What must not take long is timed by the same clock.

The pace is measured as the clock is read: a thread that works for some milliseconds without pause gets its processor
time at once on a quiet machine, and has to share it on a busy one.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 180.0
"""For waits that a condition ends; see rule 1."""
EVENTUALLY_S = 60.0
"""For what takes a second or two on a quiet machine, in its seconds."""
WORK_S = 0.010
MEASURED_EVERY_S = 0.25
ASKED_EVERY_S = 0.01


def slowness(work_s: float = WORK_S) -> float:
    """How many times longer than on a quiet machine work takes now: at least 1."""
    began_s, worked_s = time.monotonic(), time.thread_time()
    while time.thread_time() - worked_s < work_s:
        pass
    return max(1.0, (time.monotonic() - began_s) / (time.thread_time() - worked_s))


class PacedClock:
    """Seconds of a quiet machine, since this clock was first read. Threads may share it."""

    def __init__(self, measure: Callable[[], float] = slowness, wall_s: Callable[[], float] = time.monotonic) -> None:
        self._measure, self._wall_s = measure, wall_s
        self._lock = threading.Lock()
        self._slowness = measure()
        self._read_s = self._measured_s = wall_s()
        self._passed_s = 0.0

    def __call__(self) -> float:
        """The seconds that have passed. Never runs backwards, and never faster than the wall's clock."""
        with self._lock:
            before = self._slowness
            if self._wall_s() - self._measured_s >= MEASURED_EVERY_S:
                self._slowness = self._measure()
                self._measured_s = self._wall_s()
            now_s = self._wall_s()
            # Whichever was worse held for the whole interval: a test is not failed for the benefit of the doubt.
            self._passed_s += (now_s - self._read_s) / max(before, self._slowness)
            self._read_s = now_s
            return self._passed_s


paced_s = PacedClock()
"""This process's own."""


def eventually(
    condition: Callable[[], Any], what: str = "it", within_s: float = EVENTUALLY_S, every_s: float = ASKED_EVERY_S
) -> Any:
    """Ask until the condition holds; what it then was. Fails after so many seconds of a quiet machine."""
    never, give_up_s = threading.Event(), paced_s() + within_s
    while not (found := condition()):
        assert paced_s() < give_up_s, f"not within {within_s:g} s of a quiet machine: {what}"
        never.wait(every_s)
    return found


async def eventually_async(
    condition: Callable[[], Any], what: str = "it", within_s: float = EVENTUALLY_S, every_s: float = ASKED_EVERY_S
) -> Any:
    """The same on an event loop, which goes on meanwhile."""
    give_up_s = paced_s() + within_s
    while not (found := condition()):
        assert paced_s() < give_up_s, f"not within {within_s:g} s of a quiet machine: {what}"
        await asyncio.sleep(every_s)  # waits: between two looks at the condition
    return found


def ends_within(process: subprocess.Popen[Any], within_s: float, paced: Callable[[], float] = paced_s) -> bool:
    """Whether a process ends within so many seconds of a quiet machine; one that does not is killed."""
    give_up_s = paced() + within_s
    while True:
        try:
            process.wait(MEASURED_EVERY_S)
            return True
        except subprocess.TimeoutExpired:
            if paced() >= give_up_s:
                process.kill()
                process.wait()
                return False

"""Durable touches: through the engine (decided, logged, flushed to the disk, folded, answered), beside bare `sqlite3`.

The floor commits rows of the same size and schema, `synchronous=FULL`, in batches as large as ours, and does nothing
else.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import lastseen
from benchmarks.measure import Row, interleaved, rate, ratio
from benchmarks.workload import key_of
from engine.plain_touch import written

SESSIONS = 10_000
CALLERS = 64


class Floor:
    """Bare `sqlite3`: one table, `executemany` of prepared rows, a commit a batch."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(
            "CREATE TABLE stored_events (originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB,"
            " log_time_ms INTEGER, PRIMARY KEY (originator_id, originator_version))"
        )
        self.rows = 0
        key = key_of(123_456)
        self.key, self.value = key, written("0" * 36, "/lastseen", key, "2026-01-01T00:00:00.000Z", "s" * 22)

    def rate(self, events: int, batch: int) -> float:
        """Rows a second."""
        started = time.perf_counter()
        for start in range(0, events, batch):
            first = self.rows + start
            rows = [
                ("0", first + n, self.key, self.value, 1_700_000_000_000) for n in range(min(batch, events - start))
            ]
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany("INSERT INTO stored_events VALUES (?, ?, ?, ?, ?)", rows)
            self.connection.execute("COMMIT")
        self.rows += events
        return events / (time.perf_counter() - started)


@contextmanager
def filled_engine(path: Path, sessions: int) -> Iterator[lastseen.Engine]:
    """An engine with its upkeep running and so many live sessions."""
    with lastseen.open_engine(f"sqlite:///{path}") as engine:
        threads = [
            threading.Thread(
                target=lambda first: [engine.open(key_of(n)) for n in range(first, sessions, CALLERS)], args=(first,)
            )
            for first in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield engine


def one_caller(engine: lastseen.Engine, events: int) -> float:
    """Touches a second, one after the other."""
    started = time.perf_counter()
    for number in range(events):
        engine.touch(key_of(number % SESSIONS))
    return events / (time.perf_counter() - started)


def batches(engine: lastseen.Engine, events: int, batch: int) -> float:
    """Touches a second, in batches, each answered before the next."""
    keys = [key_of(number) for number in range(SESSIONS)]
    started = time.perf_counter()
    for start in range(0, events, batch):
        place = start % SESSIONS
        engine.touch_many(keys[place : place + batch])
    return events / (time.perf_counter() - started)


def many_callers(engine: lastseen.Engine, events: int) -> float:
    """Touches a second of so many threads at once, each waiting for its own answer."""
    each = events // CALLERS
    start = threading.Barrier(CALLERS + 1)

    def call(first: int) -> None:
        start.wait()
        for number in range(each):
            engine.touch(key_of((first * each + number) % SESSIONS))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    start.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    return each * CALLERS / (time.perf_counter() - started)


def run(folder: Path, repetitions: int) -> list[Row]:
    """All figures of this file."""
    floor = Floor(folder / "floor.db")
    with closing(floor.connection), filled_engine(folder / "log.db", SESSIONS) as engine:
        samples = interleaved(
            repetitions,
            bare_1=lambda: floor.rate(2_000, 1),
            one=lambda: one_caller(engine, 2_000),
            bare_100=lambda: floor.rate(30_000, 100),
            hundred=lambda: batches(engine, 30_000, 100),
            bare_64=lambda: floor.rate(30_000, CALLERS),
            callers=lambda: many_callers(engine, 12_800),
        )
    return [
        ratio("durable touch, one caller / bare sqlite3", samples, "one", "bare_1", 0.7),
        ratio("durable touches, batches of 100 / bare sqlite3", samples, "hundred", "bare_100", 0.6),
        rate("durable touches, batches of 100", samples["hundred"], 50_000),
        ratio("durable touches, 64 callers / bare sqlite3 in batches of 64", samples, "callers", "bare_64", 0.6),
        rate("durable touches, 64 callers", samples["callers"], 50_000),
    ]

"""What durability costs without anything else: bare `sqlite3` and a bare file. Floors, no peers."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.durable_drive import CALLERS, EACH, Subject, in_batches
from benchmarks.workload import key_of
from lastseen.engine.plain_touch import written

KEY = key_of(123_456)
VALUE = written("0" * 36, "/lastseen", KEY, "2026-01-01T00:00:00.000Z", "s" * 22)
"""A touch, as long as one of ours."""


class BareSqlite:
    """One table of our log's schema; `executemany` of rows that are made on the spot, and a commit a batch."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(
            "CREATE TABLE stored_events (originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB,"
            " log_time_ms INTEGER, PRIMARY KEY (originator_id, originator_version))"
        )
        self.rows = 0

    def append(self, keys: list[str]) -> None:
        """A row for each key, all of them one transaction."""
        first = self.rows
        rows = [("0", first + number, KEY, VALUE, 1_700_000_000_000) for number in range(len(keys))]
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO stored_events VALUES (?, ?, ?, ?, ?)", rows)
        self.connection.execute("COMMIT")
        self.rows += len(keys)


class BareFile:
    """Records of the same bytes, written to the end of a file and flushed to the disk with it."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def append(self, keys: list[str]) -> None:
        """A record for each key, all of them one write and one flush."""
        os.write(self.descriptor, VALUE * len(keys))
        os.fdatasync(self.descriptor)


def _floor(name: str, append: Callable[[list[str]], None], keys: Sequence[str]) -> Subject:
    said = "a floor: one by one are batches of one, 64 callers batches of 64"
    return Subject(
        name, EACH, in_batches(append, keys, 1), in_batches(append, keys, CALLERS), in_batches(append, keys), said
    )


@contextmanager
def bare_sqlite(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """`sqlite3`, WAL and FULL, knowing no session: what 64 callers can do at most is a batch of 64."""
    floor = BareSqlite(folder / "floor.db")
    with closing(floor.connection):
        yield [_floor("bare sqlite3", floor.append, keys)]


@contextmanager
def bare_file(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """Nothing but the disk."""
    floor = BareFile(folder / "floor.bin")
    try:
        yield [_floor("bare file, fdatasync", floor.append, keys)]
    finally:
        os.close(floor.descriptor)

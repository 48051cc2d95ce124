"""A plain table of sessions with an index on the last access, as services keep it: in SQLite, and in PostgreSQL.

A touch is an `UPDATE` of one row. There is no log: afterwards there is no record of what happened.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.durable_drive import CALLERS, EACH, Subject, Touch, driven
from benchmarks.servers import postgres_server

if TYPE_CHECKING:
    import psycopg

BODY = '{"platform": "discord", "user_name": "ana", "title": "a conversation", "tokens": 1234}'


def now_ms() -> int:
    """The time that is written, in ms."""
    return time.time_ns() // 1_000_000


class SqliteTable:
    """The table in SQLite. Safe for many threads: they take turns on one connection, which is its quickest way."""

    def __init__(self, path: Path, rows: Sequence[tuple[str, int]]) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.turn = threading.Lock()
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("CREATE TABLE sessions (key TEXT PRIMARY KEY, last_access INTEGER, body TEXT)")
        self.connection.execute("CREATE INDEX by_last_access ON sessions (last_access)")
        self.connection.execute("BEGIN")
        self.connection.executemany(
            "INSERT INTO sessions VALUES (?, ?, ?)", ((key, last_access, BODY) for key, last_access in rows)
        )
        self.connection.execute("COMMIT")

    def touch(self, key: str) -> None:
        """One row, committed. Raises `LookupError` for a session that is not there."""
        with self.turn:
            done = self.connection.execute("UPDATE sessions SET last_access = ? WHERE key = ?", (now_ms(), key))
        if done.rowcount != 1:
            raise LookupError(key)

    def touch_many(self, keys: Sequence[str]) -> None:
        """So many rows, committed together. Raises `LookupError` if one is not there."""
        now = now_ms()
        self.connection.execute("BEGIN IMMEDIATE")
        done = self.connection.executemany(
            "UPDATE sessions SET last_access = ? WHERE key = ?", [(now, key) for key in keys]
        )
        self.connection.execute("COMMIT")
        if done.rowcount != len(keys):
            raise LookupError(f"{done.rowcount} of {len(keys)} sessions")

    def delete_before(self, last_access: int) -> int:
        """Delete what was last used before; returns how many, committed."""
        return self.connection.execute("DELETE FROM sessions WHERE last_access < ?", (last_access,)).rowcount


class PostgresTable:
    """The table in PostgreSQL, by one connection."""

    def __init__(self, dsn: str) -> None:
        import psycopg

        self.connection: psycopg.Connection[tuple[object, ...]] = psycopg.connect(dsn, autocommit=True)

    def fill(self, rows: Sequence[tuple[str, int]]) -> None:
        """Make the table again, with so many rows, and its statistics."""
        with self.connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS sessions")
            cursor.execute("CREATE TABLE sessions (key text PRIMARY KEY, last_access bigint, body text)")
            with cursor.copy("COPY sessions FROM STDIN") as copy:
                for key, last_access in rows:
                    copy.write_row((key, last_access, BODY))
            cursor.execute("CREATE INDEX by_last_access ON sessions (last_access)")
            cursor.execute("VACUUM ANALYZE sessions")

    def touch(self, key: str) -> None:
        """One row, committed. Raises `LookupError` for a session that is not there."""
        done = self.connection.execute(
            "UPDATE sessions SET last_access = %s WHERE key = %s", (now_ms(), key), prepare=True
        )
        if done.rowcount != 1:
            raise LookupError(key)

    def touch_many(self, keys: Sequence[str]) -> None:
        """So many rows by one statement, committed together. Raises `LookupError` if one is not there."""
        done = self.connection.execute(
            "UPDATE sessions SET last_access = %s WHERE key = ANY(%s)", (now_ms(), list(keys)), prepare=True
        )
        if done.rowcount != len(keys):
            raise LookupError(f"{done.rowcount} of {len(keys)} sessions")

    def delete_before(self, last_access: int) -> int:
        """Delete what was last used before; returns how many, committed."""
        done = self.connection.execute("DELETE FROM sessions WHERE last_access < %s", (last_access,))
        return int(done.rowcount)


@contextmanager
def sqlite_table(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """The table in SQLite, WAL and FULL."""
    table = SqliteTable(folder / "table.db", [(key, now_ms()) for key in keys])
    with closing(table.connection):
        yield [
            driven(
                "SQLite table",
                EACH,
                keys,
                table.touch,
                [table.touch] * CALLERS,
                table.touch_many,
                "WAL, FULL, index on last access; 64 threads take turns",
            )
        ]


@contextmanager
def postgres_table(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """The table in PostgreSQL, which commits for several connections by one flush."""
    with postgres_server(folder) as server, ExitStack() as stack:
        first = PostgresTable(server.dsn)
        stack.callback(first.connection.close)
        first.fill([(key, now_ms()) for key in keys])
        touches: list[Touch] = []
        for _ in range(CALLERS):
            table = PostgresTable(server.dsn)
            stack.callback(table.connection.close)
            touches.append(table.touch)
        yield [
            driven(
                "PostgreSQL table",
                EACH,
                keys,
                first.touch,
                touches,
                first.touch_many,
                "synchronous_commit on, index on last access, by its Unix socket, prepared; a batch is one UPDATE",
            )
        ]

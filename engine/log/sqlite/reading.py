"""Reading records out of a log's SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from lastseen.engine.log.port import Record
from lastseen.engine.log.read_size import MAX_READ_BYTES, page_of, values_bytes
from lastseen.engine.log.sqlite.file import TABLE

STEP_ROWS = 64
"""Rows that are taken from the file before it is asked whether they are enough for one read."""
# The rows are records already, but for their class. A damaged row may hold anything: the casts cost 2% of the read, and
# the fold gets bytes and a number whatever it is.
_RECORDS = (
    "SELECT ?, originator_version, CAST(ifnull(log_time_ms, 0) AS INTEGER), topic, CAST(state AS BLOB), NULL"
    f" FROM {TABLE} WHERE originator_id = ? AND originator_version >= ? ORDER BY originator_version LIMIT ?"
)
_tuple = tuple.__new__


def read_records(connection: sqlite3.Connection, partition: int, from_offset: int, max_records: int) -> list[Record]:
    """One read's worth of records, from the first on whose offset is at least `from_offset`. Raises `sqlite3.Error`."""
    rows = connection.execute(_RECORDS, (partition, str(partition), from_offset, max_records))
    return page_from(rows)


def page_from(rows: sqlite3.Cursor) -> list[Record]:
    """One read's worth of rows that are records. No more is taken from the file: it could be more than memory holds."""
    records: list[Record] = []
    size = 0
    with closing(rows):  # or the connection would stay at this moment of the file, and its write-ahead file not end
        while size < MAX_READ_BYTES and (some := [_tuple(Record, row) for row in rows.fetchmany(STEP_ROWS)]):
            records += some
            size += values_bytes(some)
    return records if size < MAX_READ_BYTES else page_of(records)

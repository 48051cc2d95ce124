"""The recorder: `eventsourcing`'s SQLite recorder with the transactions, the connections and the columns of a log.

What is different from the stock one, and why:

- a stored event's `originator_id` is the partition and its `originator_version` the offset, so the recorder's
  uniqueness rule is a compare-and-append on the tail of a partition, and its index grows at one end;
- `topic` holds the record's key, and a column of our own the log time;
- writers begin with `BEGIN IMMEDIATE`: with a plain `BEGIN`, two readers that turn writers deadlock;
- there is one writer connection, outside the pool: the stock pool loses its writer lock when it is exhausted;
- `synchronous=FULL`: what is acknowledged survives a power loss.

Importing `eventsourcing` patches `dataclasses` for the whole process, so only `engine.log.sql*` does, and only when
such a log is opened. Its aggregates, applications and runners are not used: they cost 80 to 700 µs an event.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from eventsourcing import sqlite as stock

from lastseen.engine.log.port import Record
from lastseen.engine.log.sqlite.file import TABLE as TABLE
from lastseen.engine.log.sqlite_files import insert_rows, write_ahead

CACHED_STATEMENTS = 64
INSERT = f"INSERT INTO {TABLE} (originator_id, originator_version, log_time_ms, topic, state)"
"""In the order of a `Record`, without its mark. SQLite makes text of the partition's number: the column is of text."""


class ImmediateTransaction(stock.SQLiteTransaction):
    """A transaction that takes the write lock when it begins."""

    def __enter__(self) -> stock.SQLiteCursor:
        cursor = self.connection.cursor()
        cursor.execute("BEGIN IMMEDIATE" if self.commit else "BEGIN")
        return cursor


class LogConnection(stock.SQLiteConnection):
    """A connection whose writing transactions are immediate."""

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection of the standard library."""
        return self._sqlite_conn

    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[stock.SQLiteCursor]:
        """A transaction that commits, or is rolled back, at the end of the block."""
        with ImmediateTransaction(self, commit=commit) as cursor, cursor:
            yield cursor


class LogConnectionPool(stock.SQLiteConnectionPool):
    """The stock pool, handing out our connections; for readers."""

    def _create_connection(self) -> LogConnection:
        # The stock pool asks for `cached_statements=True`, which sqlite3 takes for a cache of one statement: each call
        # would be compiled again, which costs more than it runs.
        raw = sqlite3.connect(
            self.db_name,
            uri=True,
            check_same_thread=False,
            isolation_level=None,
            cached_statements=CACHED_STATEMENTS,
            timeout=self.lock_timeout or stock.SQLITE3_DEFAULT_LOCK_TIMEOUT,
        )
        try:
            if not self.is_sqlite_memory_mode:
                write_ahead(raw, self.lock_timeout or stock.SQLITE3_DEFAULT_LOCK_TIMEOUT)
                raw.execute("PRAGMA synchronous = FULL")
        except BaseException:
            raw.close()
            raise
        raw.row_factory = sqlite3.Row
        return LogConnection(raw, max_age=self.max_age)


class LogDatastore(stock.SQLiteDatastore):
    """The stock datastore with one dedicated writer connection."""

    def __init__(self, db_name: str, **options: Any) -> None:
        super().__init__(db_name, **options)
        self.pool.close()
        self.pool = self._pool = LogConnectionPool(
            db_name=db_name,
            lock_timeout=options.get("lock_timeout"),
            pool_size=options.get("pool_size", 5),
            max_overflow=options.get("max_overflow", 10),
        )
        self.writing = threading.RLock()
        self._writer: LogConnection | None = None

    @contextmanager
    def get_connection(self, *, commit: bool) -> Iterator[stock.SQLiteConnection]:
        """The writer connection to write, one of the pool to read."""
        if commit and not self.pool.is_sqlite_memory_mode:
            with self.writing:
                yield self.writer()
        else:
            with super().get_connection(commit=commit) as connection:
                yield connection

    def writer(self) -> LogConnection:
        """The one connection that writes; the caller holds `writing`."""
        if self._writer is None:
            self._writer = self._pool._create_connection()
        return self._writer

    def drop_writer(self) -> None:
        """Forget the writer connection, whose state is unknown: the next write opens another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def close(self) -> None:
        """Close all connections."""
        writer = self.__dict__.get("_writer")
        if writer is not None:
            self._writer = None
            writer.close()
        super().close()


class LogRecorder(stock.SQLiteApplicationRecorder):
    """The stock application recorder on a table with a log time."""

    def construct_create_table_statements(self) -> list[str]:
        """The stock table and a column: the names are the stock ones, so that its own tools can read a log."""
        return [
            f"CREATE TABLE IF NOT EXISTS {self.events_table_name} ("
            "originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB, log_time_ms INTEGER, "
            "PRIMARY KEY (originator_id, originator_version))"
        ]

    def __init__(self, datastore: stock.SQLiteDatastore, events_table_name: str = TABLE) -> None:
        super().__init__(datastore, events_table_name)
        self.insert_events_statement = (
            f"INSERT INTO {events_table_name} (originator_id, originator_version, topic, state) VALUES (?,?,?,?)"
        )

    def insert_records(self, connection: sqlite3.Connection, records: Sequence[Record]) -> None:
        """Insert records in the transaction that the caller began."""
        insert_rows(connection, INSERT, [record[:5] for record in records])

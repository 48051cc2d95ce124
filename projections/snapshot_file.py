"""The snapshot's file: one SQLite database, its rows, and how they are sealed against damage.

Sessions are keyed by an integer, (partition, offset of the `created` record), and written in key order, so new ones go
to the end of the table. Every row carries a CRC-32 of itself. `synchronous=NORMAL` is enough here: after a power loss
the file is whole but may be some flushes old, and the log continues it.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lastseen.engine.errors import LogMismatch, SnapshotError
from lastseen.engine.lifecycle import REMEMBERED_ENDINGS
from lastseen.engine.log.private_file import make_private
from lastseen.engine.log.sqlite_files import roll_back, transaction, write_ahead
from lastseen.projections.bodies import Body, BodyId, Message, Unsaved
from lastseen.projections.snapshot_rows import (
    CRC_MASK,
    PARTITION_BITS,
    Damaged,
    PartitionRow,
    SessionRow,
    decode_partition,
    decode_session,
    ending_row,
    packed,
    row_of,
    sealed,
    unpack,
    unsealed,
)

FORMAT = 5
"""2 keeps the outbox too. The digests of 3 cover other numbers for verdicts. 4 names the
genesis record of the log. 5 knows records in the wrong partition."""
IN_MEMORY = ":memory:"
SPARE_PAGES = 256
SPARE_PART = 8
"""Free pages that a file keeps for later: so many, or this part of it."""
SHRINK_PAGES = 1_000
"""Pages that are given back at a time, some milliseconds."""
_ENVIRONMENT_ERRORS = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM,
)  # fmt: skip
"""What SQLite says when the file may well be sound."""
_SMALLEST_PAGE = 512
"""Bytes; of a page of SQLite."""
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partitions (number INTEGER PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS policies (number INTEGER PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (row INTEGER PRIMARY KEY, state BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS endings (row INTEGER PRIMARY KEY, session_id TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (row INTEGER PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS attributes (row INTEGER PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    row INTEGER, "offset" INTEGER, event_id TEXT NOT NULL, at_ms INTEGER NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (row, "offset")
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS messages_by_event ON messages (row, event_id);
"""


@dataclass(slots=True)
class Batch:
    """What one flush writes."""

    policies: Sequence[tuple[int, bytes]]
    sessions: Sequence[tuple[int, bytes, int]]
    gone: Sequence[int]
    partitions: Sequence[tuple[int, PartitionRow]]
    endings: Sequence[tuple[int, str, int]]
    endings_totals: Mapping[int, int]
    outbox: Sequence[tuple[int, Any]] = ()
    """Of the outbox: row and content."""
    bodies: dict[BodyId, Unsaved] = field(default_factory=dict)


class SnapshotFile:
    """An open snapshot file; `:memory:` keeps it in memory. One thread at a time may use it."""

    def __init__(self, path: str, identity: str, partitions: int) -> None:
        """Open `path`, and make it if it is not there.

        Raises `Damaged`; `SnapshotError` where it cannot be opened, is no snapshot, or was made by a newer version;
        `LogMismatch` where it was taken of another log.
        """
        self.path = path
        if _is_truncated(path):
            raise Damaged("it is cut off")
        make_private(path)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        except sqlite3.Error as error:
            raise SnapshotError(
                f"snapshot {path} cannot be opened: {error}. Give a path in a folder that exists and can be written to"
            ) from error
        try:
            self._prepare(identity, partitions)
        except (sqlite3.Error, ValueError) as error:
            self._connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _ENVIRONMENT_ERRORS:
                raise Damaged(str(error)) from error
            raise SnapshotError(
                f"snapshot {path} cannot be opened: {error}. Check that its folder is writable, that the disk has free"
                " space, and that no other process uses it"
            ) from error
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, identity: str, partitions: int) -> None:
        connection = self._connection
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table
            write_ahead(connection)
            # Another process may have made them since; whose log they are of is looked at below.
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} INSERT OR IGNORE INTO meta VALUES ('format', {FORMAT}),"
                f" ('identity', '{identity}'), ('partitions', {int(partitions)}),"
                f" ('seal', {_seal_of(FORMAT, identity, partitions)}); COMMIT;"
            )
        elif "meta" not in tables:
            if "sessions" in tables and "endings" in tables:
                raise Damaged("it has no header")
            raise SnapshotError(
                f"{self.path} is a database, but not a snapshot of lastseen: give another snapshot path"
            )
        self.meta: dict[str, Any] = dict(connection.execute("SELECT name, value FROM meta"))
        version = self.meta.get("format")
        if not isinstance(version, int):
            raise Damaged("it names no format")
        if self.meta.get("seal") != _seal_of(version, self.meta.get("identity"), self.meta.get("partitions")):
            raise Damaged(f"its header is inconsistent: {self.meta}")
        if version > FORMAT:
            raise SnapshotError(
                f"snapshot {self.path} was written in format {version}, and this lastseen reads {FORMAT}: use a newer"
                " lastseen, or delete the snapshot to rebuild it from the log"
            )
        if version < FORMAT:
            raise Damaged(f"it is of format {version}, and this lastseen keeps format {FORMAT}")
        self._check_whole()
        if (self.meta.get("identity"), self.meta.get("partitions")) != (identity, partitions):
            raise LogMismatch(
                f"snapshot {self.path} was taken of log {self.meta.get('identity')} with"
                f" {self.meta.get('partitions')} partitions, and this is log {identity} with {partitions}: the log was"
                " recreated, or the snapshot belongs to another log. Give the log of the snapshot, or another"
                " snapshot path"
            )
        connection.execute("PRAGMA synchronous = NORMAL")

    def _check_whole(self) -> None:
        """Rows are sealed, but one that a damaged page no longer names cannot say so. Half a second a million."""
        if _tables_of(self._connection) != _our_tables():
            raise Damaged("its tables have changed")
        for check in ("PRAGMA quick_check(1)", "PRAGMA integrity_check(messages)"):
            (fault,) = self._connection.execute(check).fetchone()
            if fault != "ok":
                raise Damaged(" ".join(fault.split()))
        for table in ("attributes", "messages"):
            orphans = f"SELECT 1 FROM {table} WHERE row NOT IN (SELECT row FROM sessions) LIMIT 1"
            if self._connection.execute(orphans).fetchone():
                raise Damaged(f"there are {table} of no session")

    # ── writing ──

    def write(self, batch: Batch) -> bool:
        """Write a batch in one transaction, or nothing; whether it was written. Raises `sqlite3.Error`, `Damaged`.

        Several engines may keep one snapshot. All fold the same log, so the one that is ahead is right: a batch that is
        behind what the file has reached is not written. One that is ahead holds all that changed in between, and more.
        """
        connection = self._connection
        with transaction(connection):
            stored = self.partitions()
            reached = {number: row.checkpoint for number, row in stored.items()}
            if any(row.checkpoint < reached.get(number, 0) for number, row in batch.partitions):
                roll_back(connection)
                return False
            many = connection.executemany
            many("INSERT OR REPLACE INTO policies VALUES (?, ?)", batch.policies)
            for table in ("sessions", "attributes", "messages"):
                many(f"DELETE FROM {table} WHERE row = ?", [(row,) for row in batch.gone])
            many("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", batch.sessions)
            many("INSERT OR REPLACE INTO endings VALUES (?, ?, ?)", batch.endings)
            for number, total in batch.endings_totals.items():
                bounds = row_of(number, 0), row_of(number, max(total - REMEMBERED_ENDINGS, 0))
                connection.execute("DELETE FROM endings WHERE row >= ? AND row < ?", bounds)
            for body_id in sorted(batch.bodies):
                known = batch.bodies[body_id].after(body_id.born_offset, reached.get(body_id.partition, 0))
                self._write_body(row_of(*body_id), known)
            many("INSERT OR REPLACE INTO outbox VALUES (?, ?)", packed(batch.outbox))
            for number, row in batch.partitions:
                # The engine that has seen more of it published is right.
                row.outbox_floor = max(row.outbox_floor, stored[number].outbox_floor if number in stored else 0)
                if row.published is None:
                    row.published = stored[number].published if number in stored else 0
                bounds = row_of(number, 0), row_of(number, row.outbox_floor)
                connection.execute("DELETE FROM outbox WHERE row >= ? AND row < ?", bounds)
            many("INSERT OR REPLACE INTO partitions VALUES (?, ?)", packed(batch.partitions))
        return True

    def shrink(self) -> int:
        """Give a step of free pages back to the disk; few are kept, to be used again. Raises `sqlite3.Error`.

        Returns how many pages; the file is as much smaller once its journal was written back.
        """
        free, pages = self._count("freelist_count"), self._count("page_count")
        step = min(free - max(SPARE_PAGES, pages // SPARE_PART), SHRINK_PAGES)
        if step <= 0:
            return 0
        # A script runs to its end; `execute` would stop after the first page, since the statement has no columns.
        self._connection.executescript(f"PRAGMA incremental_vacuum({step})")
        if step < SHRINK_PAGES:
            self._connection.execute("PRAGMA wal_checkpoint").fetchall()
        return step

    def _count(self, of: str) -> int:
        return int(self._connection.execute(f"PRAGMA {of}").fetchone()[0])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read in the block is of one moment."""
        with transaction(self._connection, "BEGIN"):
            yield

    def _write_body(self, row: int, unsaved: Unsaved) -> None:
        if unsaved.attributes is not None or any(step.patch is not None for step in unsaved.steps):
            body = Body(self._attributes(row) if unsaved.attributes is None else unsaved.attributes)
            for step in unsaved.steps:
                body.change(step.patch, None, None)
            self._connection.execute("INSERT OR REPLACE INTO attributes VALUES (?, ?)", (row, sealed(body.attributes)))
        if any(step.message is not None for step in unsaved.steps):
            self._write_messages(row, unsaved)

    def _write_messages(self, row: int, unsaved: Unsaved) -> None:
        """Bring the ring on disk to what it is in memory. Reads its event ids, not its messages."""
        saved = dict(self._connection.execute('SELECT event_id, "offset" FROM messages WHERE row = ?', (row,)))
        ring = Body(
            messages=OrderedDict(
                (event_id, Message(offset, event_id, 0, b""))
                for event_id, offset in sorted(saved.items(), key=lambda pair: pair[1])
            )
        )
        for step in unsaved.steps:
            ring.change(None, step.message, step.keep)
        kept = {message.offset for message in ring.messages.values()}
        self._connection.executemany(
            'DELETE FROM messages WHERE row = ? AND "offset" = ?',
            [(row, offset) for offset in saved.values() if offset not in kept],
        )
        self._connection.executemany(
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?)",
            [
                (row, message.offset, message.event_id, message.at_ms, sealed(message.json, row, *message[:3]))
                for message in ring.messages.values()
                if message.event_id not in saved
            ],
        )

    # ── reading ──

    def partitions(self) -> dict[int, PartitionRow]:
        """All partitions by number."""
        rows = self._connection.execute("SELECT number, state FROM partitions")
        return {number: decode_partition(unsealed(state)) for number, state in rows}

    def policies(self) -> dict[int, dict[str, Any]]:
        """The fields of all policies, by number."""
        rows = self._connection.execute("SELECT number, state FROM policies")
        return {number: unpack(unsealed(state)) for number, state in rows}

    def sessions(self, partition: int) -> Iterator[tuple[int, SessionRow]]:
        """A partition's sessions with their born offsets, in the order of their births."""
        mask = (1 << PARTITION_BITS) - 1
        query = "SELECT row, state, crc FROM sessions WHERE row >= ? AND row < ?"
        decode, crc32, before = decode_session, zlib.crc32, -1
        for row, state, crc in self._connection.execute(query, _bounds(partition)):
            if crc32(state, row & CRC_MASK) != crc or row <= before:
                raise Damaged("a row's checksum is wrong, or its position")
            before = row
            yield row & mask, decode(state)

    def endings(self, partition: int) -> list[str]:
        """The ids of the sessions that ended last, oldest first."""
        query = "SELECT row, session_id, crc FROM endings WHERE row >= ? AND row < ? ORDER BY row"
        rows = self._connection.execute(query, _bounds(partition)).fetchall()
        first = rows[0][0] if rows else 0
        if any(row != ending_row(first + place, row[1]) for place, row in enumerate(rows)):
            raise Damaged("a row's checksum is wrong, or a row is missing")
        return [session_id for _, session_id, _ in rows]

    def outbox(self, partition: int) -> list[Any]:
        """What of a partition is not published yet, in the order of the log."""
        query = "SELECT state FROM outbox WHERE row >= ? AND row < ? ORDER BY row"
        return [unpack(unsealed(state)) for (state,) in self._connection.execute(query, _bounds(partition))]

    def body(self, body_id: BodyId) -> Body:
        """A session's body; an empty one if there is none."""
        row = row_of(*body_id)
        partition = self.partitions().get(body_id.partition)
        body = Body(reached=partition.checkpoint if partition else 0)
        body.set_attributes(self._attributes(row))
        query = 'SELECT "offset", event_id, at_ms, state FROM messages WHERE row = ? ORDER BY "offset"'
        for offset, event_id, at_ms, state in self._connection.execute(query, (row,)):
            value = unpack(unsealed(state, row, offset, event_id, at_ms))
            body.change(None, Message(offset, event_id, at_ms, value), None)
        return body

    def _attributes(self, row: int) -> dict[str, Any]:
        found = self._connection.execute("SELECT state FROM attributes WHERE row = ?", (row,)).fetchone()
        return {} if found is None else dict(unpack(unsealed(found[0])))

    def copy_to(self, path: str) -> None:
        """Write a compact copy of the whole file. Raises `sqlite3.Error` where `path` exists or cannot be written."""
        if Path(path).exists():
            raise sqlite3.OperationalError(f"{path} exists")
        make_private(path)
        self._connection.execute("VACUUM INTO ?", (path,))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _is_truncated(path: str) -> bool:
    """Whether part of the last page is missing: SQLite fills it with zeros, and takes a few bytes for a new file.

    SQLite reads the page size: were the file opened without it, closing it would give up the locks of another engine of
    this process on it.
    """
    try:
        size = Path(path).stat().st_size
        if size < _SMALLEST_PAGE:
            return size > 0
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            return size % int(connection.execute("PRAGMA page_size").fetchone()[0]) != 0
    except (OSError, *_UNREADABLE):
        return False  # what it is, `_prepare` says


def _tables_of(connection: sqlite3.Connection) -> set[tuple[str, str | None]]:
    return set(connection.execute("SELECT name, sql FROM sqlite_master"))


@cache
def _our_tables() -> set[tuple[str, str | None]]:
    with closing(sqlite3.connect(IN_MEMORY)) as connection:
        connection.executescript(_SCHEMA)
        return _tables_of(connection)


def _seal_of(version: object, identity: object, partitions: object) -> int:
    """A checksum of what the file says of itself; every format has it."""
    return zlib.crc32(f"{version} {identity} {partitions}".encode())


def _bounds(partition: int) -> tuple[int, int]:
    return row_of(partition, 0), row_of(partition + 1, 0)

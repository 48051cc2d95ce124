"""History: per key, every record with its verdict, and how each session began and ended. On disk, in batches.

It is written before the snapshot, so it is never behind it; what it holds beyond the snapshot's checkpoint is written
again, with the same content, when the log is followed from there. It answers "why" long after a session is gone.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import msgspec

from lastseen.engine.arguments import check_times
from lastseen.engine.errors import InvalidSetting, SessionEnd, SnapshotError, shown
from lastseen.engine.log.private_file import make_private
from lastseen.engine.log.sqlite_files import insert_rows, transaction, write_ahead
from lastseen.engine.verdicts import Verdict
from lastseen.projections.history_bound import DEFAULT_MAX_BYTES, HistoryBound
from lastseen.projections.history_notes import Notes
from lastseen.projections.partition import Outcome, Partition, TouchRun
from lastseen.projections.session_spans import (
    COLUMNS,
    SessionSpan,
    SpanPage,
    StoredSpan,
    end_of,
    ended_condition,
    page_of,
    span_of,
    under_prefix,
    within,
)

FORMAT = 4
"""2 has other numbers for verdicts. 3 keeps records of one key at one offset of two partitions apart. 4 keeps what a
session was when it ended: its owner, its limits, its last use."""
MAX_PAGE = 10_000
_IN_MEMORY = ":memory:"
_LATEST = 64
_LAST_OFFSET = 2**63 - 1
_READ_TIMEOUT_S = 0.2
_DAMAGE = (sqlite3.Error, ValueError, msgspec.ValidationError)
"""The errors of a file that has changed since it was written: SQLite reports it, or text is no text, or a row is no
row."""
T = TypeVar("T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    key TEXT, "offset" INTEGER, partition INTEGER, at_ms INTEGER, verdict INTEGER, name TEXT, session_id TEXT,
    event_id TEXT, source TEXT, reason TEXT, PRIMARY KEY (key, "offset", partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lives (
    key TEXT, began_offset INTEGER, session_id TEXT, partition INTEGER, began_at_ms INTEGER, began_by TEXT,
    ended_at_ms INTEGER, ended_offset INTEGER, ended_by TEXT, reason TEXT, owner TEXT, last_active_at_ms INTEGER,
    deadline_ms INTEGER, version INTEGER, policy TEXT, PRIMARY KEY (key, began_offset)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lives_ended ON lives (ended_at_ms, ended_offset, partition) WHERE ended_at_ms IS NOT NULL;
CREATE INDEX IF NOT EXISTS lives_of_owner ON lives (owner, ended_at_ms, ended_offset, partition)
    WHERE owner IS NOT NULL;
"""


class Entry(NamedTuple):
    """One record of a key, and what became of it."""

    key: str
    offset: int
    partition: int
    at_ms: int
    """Its log time; for a record that is void for its form, when the log took it."""
    verdict: Verdict
    name: str | None
    """The event's short name; `None` where the record holds no event of ours."""
    session_id: str | None
    event_id: str | None
    source: str | None
    reason: str | None


Checkpoints = Sequence[tuple[str, int]]
"""By partition, named as in the file, up to where the history reaches."""


class History:
    """The history file; `:memory:` keeps it in memory, the newest `max_bytes` of it. Safe to call from many threads."""

    def __init__(self, path: str, identity: str, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = path
        self.lock = threading.RLock()
        """Held from when notes are taken until they are written, so that they are written in their order."""
        self._reading = threading.Lock()
        """Held while the second connection reads. Innermost: no other lock is taken under it."""
        self._read_connection: sqlite3.Connection | None = None
        self._notes = Notes()
        self._unwritten: list[Notes] = []
        """What flushes took and have not written yet, in the order of the log. Writing it twice does no harm."""
        make_private(path)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        except sqlite3.Error as error:
            raise self._unusable("opened", error) from error
        try:
            write_ahead(self._connection)
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
            self._forget_older_format()
            self._connection.execute(
                "INSERT OR IGNORE INTO meta VALUES ('format', ?), ('identity', ?)", (FORMAT, identity)
            )
            meta = dict(self._connection.execute("SELECT name, value FROM meta"))
            self._bound = HistoryBound(self._connection, max_bytes) if path == _IN_MEMORY else None
        except _DAMAGE as error:
            self._connection.close()
            raise self._unusable("opened", error) from error
        version = meta.get("format")
        if meta.get("identity") != identity or not isinstance(version, int) or version > FORMAT:
            self._connection.close()
            raise SnapshotError(
                f"history {path} belongs to log {shown(meta.get('identity'))} in format {shown(version)}, and this is"
                f" log {identity} in format {FORMAT}: give another history path, or delete the file to rebuild it"
            )

    def _forget_older_format(self) -> None:
        """Empty a history of an older format: its numbers mean other verdicts, and all of it is folded again."""
        found = self._connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
        if found is not None and isinstance(found[0], int) and found[0] < FORMAT:
            self._connection.executescript(
                f"BEGIN IMMEDIATE; DROP TABLE entries; DROP TABLE lives; {_SCHEMA}"
                f" DELETE FROM meta WHERE name LIKE 'checkpoint-%'; UPDATE meta SET value = {FORMAT}"
                " WHERE name = 'format'; COMMIT;"
            )

    def reached(self) -> dict[int, int]:
        """For each partition, the offset up to which the history is complete."""
        rows = self._read("SELECT name, value FROM meta WHERE name LIKE 'checkpoint-%'", (), tuple[str, int])
        try:
            return {int(name.partition("-")[2]): value for name, value in rows}
        except ValueError as error:
            raise self._unusable("read", error) from error

    def follow(self, _: Partition, outcomes: Sequence[Outcome]) -> None:
        """Take note of outcomes."""
        add = self._notes.add
        for outcome in outcomes:
            add(outcome)

    def follow_touches(self, _: Partition, run: TouchRun) -> None:
        """Take note of touches."""
        self._notes.entries += run.entries

    def unsaved(self) -> int:
        """How many records are not written yet."""
        waiting = {id(notes): len(notes.entries) for notes in (*self._unwritten, self._notes)}
        return sum(waiting.values())

    def flush(self, partitions: Sequence[Partition], view_lock: AbstractContextManager[Any]) -> None:
        """Write what has been noted, in one transaction. Raises `SnapshotError`; then the next flush tries again."""
        with self.lock:
            with view_lock:
                checkpoints = self.take(partitions)
            self.write(checkpoints)

    def take(self, partitions: Sequence[Partition]) -> Checkpoints:
        """Have `write` write what has been noted; returns the checkpoints that it reaches.

        The caller holds `lock` until then, and the view's lock.
        """
        notes = self._notes
        if not self._unwritten or self._unwritten[-1] is not notes:  # else an interrupt came before the next line
            self._unwritten.append(notes)
        self._notes = Notes()
        return [(f"checkpoint-{partition.number}", partition.checkpoint) for partition in partitions]

    def write(self, checkpoints: Checkpoints) -> None:
        """Write all that was taken, in one transaction; where that fails, the next does. Raises `SnapshotError`."""
        try:
            self._write(self._unwritten, checkpoints)
        except sqlite3.Error as error:
            raise SnapshotError(
                f"history {self.path} cannot be written: {error}. The log and the reads are not affected; free some"
                " space or repair the permissions, and the next flush catches up"
            ) from error
        self._unwritten = []

    def _write(self, unwritten: Sequence[Notes], checkpoints: Checkpoints) -> None:
        connection = self._connection
        with transaction(connection):
            entries = sorted(chain.from_iterable(notes.entries for notes in unwritten))
            insert_rows(connection, "INSERT OR REPLACE INTO entries", entries)
            connection.executemany(
                "INSERT INTO lives (key, began_offset, session_id, partition, began_at_ms, began_by)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                chain.from_iterable(notes.begun for notes in unwritten),
            )
            connection.executemany(
                "UPDATE lives SET ended_at_ms = ?, ended_offset = ?, ended_by = ?, reason = ?, owner = ?,"
                " last_active_at_ms = ?, deadline_ms = ?, version = ?, policy = ? WHERE key = ? AND began_offset = ?",
                chain.from_iterable(notes.ended for notes in unwritten),
            )
            # Several engines may keep one history: it is as complete as the furthest of them has made it.
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                checkpoints,
            )
        if self._bound is not None:
            self._bound.keep()

    def floor(self, number: int) -> int:
        """The offset of a partition from which on every record is here; 0 unless older ones have left memory."""
        return 0 if self._bound is None else self._bound.floors.get(number, 0)

    def entries(
        self, key: str, *, after_offset: int = -1, since_ms: int | None = None, until_ms: int | None = None,
        limit: int = 1_000,
    ) -> list[Entry]:  # fmt: skip
        """A page of a key's records in the order of the log; the caller has flushed.

        `since_ms` is included, `until_ms` is not. Raises `InvalidSetting` and `SnapshotError`.
        """
        _check_page(after_offset, limit, since_ms, until_ms)
        condition, values = within((("at_ms >= ?", since_ms), ("at_ms < ?", until_ms)))
        return self._read(
            f'SELECT * FROM entries WHERE key = ? AND "offset" > ?{condition} ORDER BY "offset", partition LIMIT ?',
            (key, after_offset, *values, limit),
            Entry,
        )

    def session_spans(
        self, key: str, *, after_offset: int = -1, since_ms: int | None = None, until_ms: int | None = None,
        owner: str | None = None, limit: int = 1_000,
    ) -> list[SessionSpan]:  # fmt: skip
        """A page of a key's sessions in the order of their beginnings. Raises `InvalidSetting`, `SnapshotError`.

        Of those that lived at some time from `since_ms` on and before `until_ms`, as far as records say; of an owner's,
        and those that no record has ended, whose owner is not known here.
        """
        _check_page(after_offset, limit, since_ms, until_ms)
        condition, values = within((
            ("began_at_ms < ?", until_ms),
            ("(ended_at_ms IS NULL OR ended_at_ms >= ?)", since_ms),
            ("(ended_at_ms IS NULL OR owner = ?)", owner),
        ))  # fmt: skip
        return self._spans(
            f"key = ? AND began_offset > ?{condition} ORDER BY began_offset LIMIT ?",
            (key, after_offset, *values, limit),
        )

    def last_session_span(self, key: str) -> SessionSpan | None:
        """The latest session of a key. Raises `SnapshotError`."""
        spans = self._spans("key = ? ORDER BY began_offset DESC LIMIT 1", (key,))
        return spans[0] if spans else None

    def session_span_before(self, key: str, offset: int) -> SessionSpan | None:
        """The latest session of a key that began before an offset. Raises `SnapshotError`."""
        spans = self._spans("key = ? AND began_offset < ? ORDER BY began_offset DESC LIMIT 1", (key, offset))
        return spans[0] if spans else None

    def session_span_at(self, key: str, at_ms: int) -> SessionSpan | None:
        """The latest session of a key that had begun at a time. Raises `SnapshotError`."""
        spans = self._spans("key = ? AND began_at_ms <= ? ORDER BY began_offset DESC LIMIT 1", (key, at_ms))
        return spans[0] if spans else None

    def session_span_with(self, key: str, session_id: str) -> SessionSpan | None:
        """The session of a key that has an id. Raises `SnapshotError`."""
        spans = self._spans("key = ? AND session_id = ? LIMIT 1", (key, session_id))
        return spans[0] if spans else None

    def known_end(self, key: str, session_id: str | None = None) -> SessionEnd | None:
        """How the latest ended session of a key ended, or the one with an id, if it is among the latest 64.

        Waits for no flush of a file, and writes nothing. Raises `SnapshotError`.
        """
        # In the order in which rows move on: what has left one place is in the next.
        for notes in (self._notes, *reversed(self._unwritten)):
            latest = notes.latest_ends.get(key)
            if latest is not None and session_id in (None, latest[2][0]):
                return SessionEnd(*latest[2])
        for span in self._latest_ended(key, _LAST_OFFSET, 1 if session_id is None else _LATEST):
            if session_id in (None, span.session_id):
                return end_of(span)
        return None

    def end_before(self, key: str, born_offset: int) -> SessionEnd | None:
        """How the session ended that was the last under a key to begin before an offset; likewise.

        The session that began at the offset was the next, so that this one has ended.
        """
        for notes in (self._notes, *reversed(self._unwritten)):
            found = notes.end_before(key, born_offset)
            if found is not None:
                return SessionEnd(*found)
        spans = self._latest_ended(key, born_offset, 1)
        return end_of(spans[0]) if spans else None

    def _latest_ended(self, key: str, before_offset: int, limit: int) -> list[SessionSpan]:
        query = (
            f"SELECT {COLUMNS} FROM lives WHERE key = ? AND began_offset < ? AND ended_at_ms IS NOT NULL"
            " ORDER BY began_offset DESC LIMIT ?"
        )
        try:
            is_in_memory = self.path == _IN_MEMORY
            with self.lock if is_in_memory else self._reading:
                connection = self._connection if is_in_memory else self._reader()
                rows = connection.execute(query, (key, before_offset, limit)).fetchall()
            return [span_of(row) for row in msgspec.convert(rows, list[StoredSpan])]
        except (*_DAMAGE, TypeError) as error:
            raise self._unusable("read", error) from error

    def _reader(self) -> sqlite3.Connection:
        """The connection that reads beside the one that writes."""
        if self._read_connection is None:
            self._read_connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=_READ_TIMEOUT_S
            )
        return self._read_connection

    def ended_sessions(
        self,
        *,
        owner: str | None = None,
        prefix: str = "",
        since_ms: int | None = None,
        until_ms: int | None = None,
        reason: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SpanPage:
        """A page of the sessions that a record has ended, the latest first; the caller has flushed.

        `since_ms` is included, `until_ms` is not. Costs those of the owner, else those under the prefix, else those of
        the time. Raises `InvalidSetting` and `SnapshotError`.
        """
        _check_page(-1, limit)
        condition, values = ended_condition(owner, prefix, since_ms, until_ms, reason, cursor)
        return page_of(self._spans(condition, (*values, limit + 1)), limit, owner, prefix, reason)

    def _spans(self, condition: str, values: tuple[Any, ...]) -> list[SessionSpan]:
        rows = self._read(f"SELECT {COLUMNS} FROM lives WHERE {condition}", values, StoredSpan)
        try:
            return [span_of(row) for row in rows]
        except (ValueError, TypeError) as error:
            raise self._unusable("read", error) from error

    def places_under(self, prefix: str, after: tuple[str, int, int], limit: int) -> list[tuple[str, int, int]]:
        """Where the records of the keys under a prefix are: key, offset and partition, by key; those after `after`.

        Raises `SnapshotError`.
        """
        condition, values = under_prefix("key", prefix)
        query = (
            f'SELECT key, "offset", partition FROM entries WHERE (key, "offset", partition) > (?, ?, ?) AND {condition}'
            ' ORDER BY key, "offset", partition LIMIT ?'
        )
        return self._read(query, (*after, *values, limit), tuple[str, int, int])

    def last_entry(self, key: str) -> Entry | None:
        """The latest record of a key in its own partition. Raises `SnapshotError`."""
        query = 'SELECT * FROM entries WHERE key = ? AND verdict != ? ORDER BY "offset" DESC LIMIT 1'
        rows = self._read(query, (key, int(Verdict.WRONG_PARTITION)), Entry)
        return rows[0] if rows else None

    def entry_at(self, key: str, partition: int, offset: int) -> Entry | None:
        """The record of a key at a place in the log. Raises `SnapshotError`."""
        query = 'SELECT * FROM entries WHERE key = ? AND "offset" = ? AND partition = ?'
        rows = self._read(query, (key, offset, partition), Entry)
        return rows[0] if rows else None

    def _read(self, query: str, values: tuple[Any, ...], kind: type[T]) -> list[T]:
        """The rows that a query finds. What a damaged file gives in their place is no row."""
        try:
            with self.lock:
                rows = self._connection.execute(query, values).fetchall()
            return msgspec.convert(rows, list[kind])  # type: ignore[valid-type]
        except _DAMAGE as error:
            raise self._unusable("read", error) from error

    def _unusable(self, what: str, error: Exception) -> SnapshotError:
        return SnapshotError(
            f"history {self.path} cannot be {what}: {error}. Check that its folder is writable; if the file is"
            " damaged, delete it together with the snapshot, and both are rebuilt from the log"
        )

    def close(self) -> None:
        """Close the file."""
        with self.lock, self._reading:
            if self._read_connection is not None:
                self._read_connection.close()
            self._connection.close()


def _check_page(after_offset: object, limit: object, since_ms: object = None, until_ms: object = None) -> None:
    check_times(since_ms, until_ms)
    for name, value, least, most in (("after_offset", after_offset, -1, 2**63 - 1), ("limit", limit, 1, MAX_PAGE)):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidSetting(f"{name} = {shown(value)}: give a whole number from {least} to {most}")

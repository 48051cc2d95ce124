"""Live sessions as a file, and from a file into an empty log: keys, times, limits, attributes and messages.

The history of a session is not in such a file; `lastseen.exchange.history` exports that. An import writes records that
lead to the same state at the same times (`lastseen.exchange.session_rows`); its version starts again. A row that cannot
come back as it is, is found before anything is written, and what is in the log afterwards is folded and compared.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lastseen.bulk.ordered_pages import records
from lastseen.bulk.resumable_writer import ResumableWriter
from lastseen.embedded.engine import Engine
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.offline import reading
from lastseen.engine import events
from lastseen.engine.clock import Clock, SystemClock, iso_from_ms
from lastseen.engine.codec import envelope
from lastseen.engine.errors import ExportError, InvalidInput, LogMismatch
from lastseen.engine.genesis import SUBJECT, genesis
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Log, Message
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import SessionView
from lastseen.engine.verdicts import Verdict
from lastseen.exchange.files import reader, remove, writer
from lastseen.exchange.history import Exported, how_else
from lastseen.exchange.session_rows import SOURCE, SessionRows
from lastseen.exchange.table import Header, Row
from lastseen.exchange.temporary_database import temporary_database
from lastseen.projections.partition import Partition

PAGE = 1_000
_FINISHED = events.ImportFinished.__dataclass_fields__["type"].default
_SCHEMA = "CREATE TABLE events (at_ms INTEGER, number INTEGER, step INTEGER, key TEXT, value BLOB)"


def export_sessions(url: str, path: Path, progress: Progress = lambda done, total: None) -> Exported:
    """Write the sessions that are live now on the log at `url` to `path`.

    After an interruption it continues after its last row if the log has not changed; else the file is rewritten. Raises
    `ExportError`, `InvalidSetting` for another ending than .jsonl, .csv or .parquet, and the log's errors.
    """
    with reading(url) as engine:
        reached = engine.checkpoints()
        header = Header("sessions", engine.log_identity, tuple(reached[number][0] for number in sorted(reached)))
        file = writer(path, header)
        if file.header != header or file.is_finished:
            file.close()
            remove(path)
            file = writer(path, header)
        with closing(file):
            found, total = file.rows, engine.count()
            for done, view in enumerate(_in_order(engine), start=1):
                if done > found:
                    file.put(_row(engine, view))
                if done % PAGE == 0:
                    progress(done, total)
            file.finish()
            progress(total, total)
            return Exported(file.rows, found, 0)


def _in_order(engine: Engine) -> Iterator[SessionView]:
    """All live sessions in the order in which they began, which never changes."""
    cursor = None
    while True:
        page = engine.list(sort="created", limit=PAGE, cursor=cursor)
        yield from page.sessions
        cursor = page.cursor
        if cursor is None:
            return


def _row(engine: Engine, view: SessionView) -> Row:
    messages = [
        {"at_ms": each.at_ms, "event_id": each.event_id, "value": each.value} for each in engine.messages(view.key)
    ]
    return {
        "partition": view.partition, "born_offset": view.born_offset, "key": view.key, "session_id": view.session_id,
        "status": view.status.value, "version": view.version, "owner": view.owner,
        "created_at_ms": view.created_at_ms, "last_active_at_ms": view.last_active_at_ms,
        "last_offset": view.position.offset, "suspended_at_ms": view.suspended_at_ms, "parked_ms": view.suspended_ms,
        "deadline_ms": view.deadline_ms, "deadline_reason": view.deadline_reason,
        "policy": msgspec.to_builtins(view.policy), "holders": view.holders, "attributes": dict(view.attributes),
        "messages": messages,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImportedSessions:
    """The result of an import of sessions."""

    sessions: int
    skipped: list[tuple[str, str]]
    """Key and reason of each row that is not a valid session."""
    lost: list[tuple[str, str]]
    """Key and reason of each session that the log does not have, although its records were appended."""
    records: int
    """Records of the import in the log, including the marks of its start and end."""
    found: int
    """Records that the log held before this run."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            "sessions": self.sessions, "skipped": [list(each) for each in self.skipped],
            "lost": [list(each) for each in self.lost], "records": self.records,
            "records_appended": max(self.records - self.found, 0),
        }  # fmt: skip


def import_sessions(
    path: Path, url: str, *, clock: Clock | None = None, progress: Progress = lambda done, total: None
) -> ImportedSessions:
    """Import exported sessions into the log at `url`, which is empty, or holds this very import or its beginning.

    Rows that are not valid sessions are skipped and reported; a session that the log does not have afterwards is
    `lost`. Raises `ExportError`, `LogMismatch` where the log holds anything else, and the log's errors.
    """
    clock = clock or SystemClock()
    file = reader(path)
    if file.header.kind != "sessions":
        raise ExportError(f"{path} is an export of {file.header.kind}: {how_else(file.header.kind)}")
    skipped: list[tuple[str, str]] = []
    with temporary_database() as database:
        database.execute(_SCHEMA)
        database.execute("BEGIN")
        digest, rows = hashlib.sha256(), SessionRows(clock.now_ms())
        for number, row in enumerate(file.rows()):
            digest.update(msgspec.json.encode(row))
            try:
                events_of_row = rows.events_of(row)
            except InvalidInput as error:
                skipped.append((str(row.get("key")), str(error)))
                continue
            database.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
                ((at_ms, number, step, row["key"], value) for step, (at_ms, value) in enumerate(events_of_row)),
            )
            if number % PAGE == 0:
                progress(number, 2 * file.count)
        database.execute("COMMIT")
        log = open_log(url, clock, genesis=False)
        try:
            found = log.end_offsets()
            appender = ResumableWriter(log, found, "import of these sessions")
            for done, message in enumerate(_messages(database, log.partitions, digest.hexdigest())):
                appender.put(message)
                if done % PAGE == 0:
                    progress(file.count, 2 * file.count)
            appender.finish(may_continue=True)
            progress(2 * file.count, 2 * file.count)
            lost = _lost(log, appender.ends, rows.keys)
            return ImportedSessions(len(rows.keys) - len(lost), skipped, lost, appender.written, sum(found))
        finally:
            log.close()


def _messages(database: sqlite3.Connection, partitions: int, digest: str) -> Iterator[Message]:
    (first_ms,) = database.execute("SELECT coalesce(min(at_ms), 0) FROM events").fetchone()
    says = {"sessions_sha256": digest}
    for number in range(partitions):
        yield genesis(
            digest[:32], number, partitions, first_ms,
            source=SOURCE, event_id=f"import-opening-{number}", imports=True, more=says,
        )  # fmt: skip
    for key, value in database.execute("SELECT key, value FROM events ORDER BY at_ms, number, step"):
        yield Message(partition_of(key, partitions), key, value)
    for number in range(partitions):
        # Of the same time as the opening: where that is believed so is this, and no log stays open.
        value = envelope(_FINISHED, f"import-end-{number}", SOURCE, SUBJECT, iso_from_ms(first_ms), says)
        yield Message(number, SUBJECT, value)


def _lost(log: Log, ends: Sequence[int], wanted: Mapping[str, str]) -> list[tuple[str, str]]:
    """Fold the import in the log; key and reason of each session that is not as the rows say. Raises `LogError`."""
    partitions = [Partition(number) for number in range(log.partitions)]
    lost: dict[str, str] = {}
    for partition, end in zip(partitions, ends, strict=True):
        for record in records(log, partition.number, end):
            verdict = partition.fold(record).verdict
            if verdict is not Verdict.APPLIED and record.key is not None and record.key in wanted:
                lost.setdefault(record.key, f"the log has a record of it that is void: {verdict.label}")
        if partition.importing:
            raise LogMismatch(
                f"partition {partition.number} is still open for import: no engine writes to this log. Check the clocks"
                " of the log and of this machine, and import into a new log"
            )
    for key, session_id in wanted.items():
        session = partitions[partition_of(key, log.partitions)].find(key)
        if session is None or session.session_id != session_id:
            lost.setdefault(key, "the log has no such session")
    return sorted(lost.items())

"""Live sessions as a file, and from a file into an empty log: keys, times, limits, attributes and messages.

The history of a session is not in such a file; `lastseen.exchange.history` exports that. An import writes records that
lead to the same state at the same times: a session begins without limits, its messages get their own times, its last
activity brings its limits, then it is suspended, or held, if it was. Its version starts again.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from lastseen.bulk.resumable_writer import ResumableWriter
from lastseen.embedded.engine import Engine
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.offline import reading
from lastseen.engine import events
from lastseen.engine.clock import Clock, SystemClock, iso_from_ms
from lastseen.engine.codec import checked, encode, envelope
from lastseen.engine.errors import ExportError, InvalidInput
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Message
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import Policy, SessionView
from lastseen.exchange.files import reader, writer
from lastseen.exchange.history import Exported
from lastseen.exchange.table import Header, Row

SOURCE, SUBJECT = "/import", "lastseen:import"
PAGE = 1_000
_kind = {kind: kind.__dataclass_fields__["type"].default for kind in events.STORED_EVENTS}
_SCHEMA = "CREATE TABLE events (at_ms INTEGER, number INTEGER, step INTEGER, key TEXT, value BLOB)"


def export_sessions(url: str, path: Path, progress: Progress = lambda done, total: None) -> Exported:
    """Write the sessions that are live now on the log at `url` to `path`.

    After an interruption it continues after its last row if the log has not changed; else the file is rewritten. Raises
    `ExportError`, `InvalidSetting` for another ending than .jsonl or .parquet, and the log's errors.
    """
    with reading(url) as engine:
        reached = engine.checkpoints()
        header = Header("sessions", engine.log_identity, tuple(reached[number][0] for number in sorted(reached)))
        file = writer(path, header)
        if file.header != header or file.is_finished:
            file.close()
            shutil.rmtree(path) if path.is_dir() else path.unlink()
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
        {"at_ms": each.at_ms, "event_id": each.event_id, "value": msgspec.json.decode(each.value)}
        for each in engine.messages(view.key)
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
    records: int
    """Records of the import in the log, including the marks of its start and end."""
    found: int
    """Records that the log held before this run."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            "sessions": self.sessions, "skipped": [list(each) for each in self.skipped], "records": self.records,
            "records_appended": max(self.records - self.found, 0),
        }  # fmt: skip


def import_sessions(
    path: Path, url: str, *, clock: Clock | None = None, progress: Progress = lambda done, total: None
) -> ImportedSessions:
    """Import exported sessions into the log at `url`, which is empty, or holds this very import or its beginning.

    Rows that are not valid sessions are skipped and reported. Raises `ExportError`, `LogMismatch` where the log holds
    anything else, and the log's errors.
    """
    clock = clock or SystemClock()
    file = reader(path)
    if file.header.kind != "sessions":
        raise ExportError(f"{path} is an export of {file.header.kind}: import it with lastseen import history")
    skipped: list[tuple[str, str]] = []
    with (
        tempfile.TemporaryDirectory(prefix="lastseen-") as folder,
        closing(sqlite3.connect(Path(folder) / "events.db", isolation_level=None)) as database,
    ):
        database.execute("PRAGMA synchronous = OFF")
        database.execute(_SCHEMA)
        database.execute("BEGIN")
        digest, seen = hashlib.sha256(), set[str]()
        for number, row in enumerate(file.rows()):
            digest.update(msgspec.json.encode(row))
            try:
                events_of_row = list(_events_of(row, seen, clock.now_ms()))
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
        log = open_log(url, clock)
        try:
            found = log.end_offsets()
            appender = ResumableWriter(log, found, "import of these sessions")
            for done, message in enumerate(_messages(database, log.partitions, digest.hexdigest())):
                appender.put(message)
                if done % PAGE == 0:
                    progress(file.count, 2 * file.count)
            appender.finish(may_continue=True)
            progress(2 * file.count, 2 * file.count)
            return ImportedSessions(len(seen), skipped, appender.written, sum(found))
        finally:
            log.close()


def _messages(database: sqlite3.Connection, partitions: int, digest: str) -> Iterator[Message]:
    first_ms, last_ms = database.execute(
        "SELECT coalesce(min(at_ms), 0), coalesce(max(at_ms), 0) FROM events"
    ).fetchone()
    for number in range(partitions):
        yield _mark(events.ImportStarted, "opening", number, first_ms, digest)
    for key, value in database.execute("SELECT key, value FROM events ORDER BY at_ms, number, step"):
        yield Message(partition_of(key, partitions), key, value)
    for number in range(partitions):
        yield _mark(events.ImportFinished, "end", number, last_ms, digest)


def _mark(kind: type[Any], name: str, number: int, at_ms: int, digest: str) -> Message:
    fields = {"sessions_sha256": digest}
    value = envelope(_kind[kind], f"import-{name}-{number}", SOURCE, SUBJECT, iso_from_ms(at_ms), fields)
    return Message(number, SUBJECT, value)


class _Message(msgspec.Struct):
    """A message of a session, and its time."""

    at_ms: int
    event_id: str
    value: Any


class _Row(msgspec.Struct):
    """What an import reads of a row."""

    key: str
    session_id: str
    status: str
    created_at_ms: int
    last_active_at_ms: int
    suspended_at_ms: int | None
    suspended_ms: int = msgspec.field(name="parked_ms")
    policy: dict[str, Any]
    holders: dict[str, int]
    attributes: dict[str, Any]
    messages: list[_Message]


def _events_of(fields: Mapping[str, Any], seen: set[str], now_ms: int) -> Iterator[tuple[int, bytes]]:
    """The records that lead to a session, with their times. Raises `InvalidInput` where the row is not valid."""
    try:
        row = msgspec.convert(fields, _Row)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"it is not a session: {error}") from None
    times = [row.created_at_ms, *(each.at_ms for each in row.messages), row.last_active_at_ms]
    if row.suspended_at_ms is not None:
        times.append(row.suspended_at_ms)
    if times != sorted(times) or times[-1] > now_ms or row.suspended_ms < 0:
        raise InvalidInput("its times do not follow each other, or lie in the future")
    if row.key in seen:
        raise InvalidInput("another row has the same key")
    limits = _policy(row.policy)
    count = 0

    def event(kind: type[Any], at_ms: int, data: Any, event_id: str | None = None) -> tuple[int, bytes]:
        nonlocal count
        count += 1
        made = checked(
            lambda: kind(
                id=event_id or f"import-{row.session_id}-{count}", source=SOURCE, subject=row.key,
                time=iso_from_ms(at_ms), data=data(),
            )
        )  # fmt: skip
        return at_ms, encode(made)

    def touch(at_ms: int, event_id: str | None = None, **members: Any) -> tuple[int, bytes]:
        return event(events.Touched, at_ms, lambda: events.TouchedData(session_id=row.session_id, **members), event_id)

    def reasoned(kind: type[Any], at_ms: int) -> tuple[int, bytes]:
        return event(kind, at_ms, lambda: events.ReasonedData(session_id=row.session_id))

    unlimited = Policy(max_hold_ms=limits.max_hold_ms, max_messages=limits.max_messages)
    yield event(
        events.Created, row.created_at_ms,
        lambda: events.CreatedData(session_id=row.session_id, policy=unlimited, attributes=row.attributes),
    )  # fmt: skip
    left_ms, at_ms = row.suspended_ms, row.created_at_ms
    for message in [*row.messages, None]:
        next_ms = row.last_active_at_ms if message is None else message.at_ms
        suspended_ms = min(left_ms, next_ms - at_ms)
        if suspended_ms:
            # When it was suspended in between is not known, only for how long, and that no message came then.
            yield reasoned(events.Suspended, at_ms)
            yield reasoned(events.Resumed, at_ms + suspended_ms)
            left_ms -= suspended_ms
        if message is not None:
            yield touch(message.at_ms, message.event_id, message=message.value)
        at_ms = next_ms
    yield touch(row.last_active_at_ms, policy=limits)
    if row.suspended_at_ms is not None:
        yield reasoned(events.Suspended, row.suspended_at_ms)
    elif row.holders:
        yield from _leases(row, limits, event)
    seen.add(row.key)


def _policy(fields: dict[str, Any]) -> Policy:
    try:
        return Policy(**fields)
    except (ValidationError, TypeError) as error:
        raise InvalidInput(f"its policy is invalid: {error}") from None


def _leases(row: _Row, limits: Policy, event: Any) -> Iterator[tuple[int, bytes]]:
    """The leases of its holders, each until its end, as far as the limit allows."""
    for holder, until_ms in sorted(row.holders.items()):
        longest_ms = until_ms if limits.max_hold_ms is None else limits.max_hold_ms
        at_ms = max(row.last_active_at_ms, until_ms - longest_ms)
        if at_ms < until_ms:
            data = {"session_id": row.session_id, "holder": holder, "lease_ms": until_ms - at_ms}
            yield event(events.Held, at_ms, lambda data=data: events.HeldData(**data))

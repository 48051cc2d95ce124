"""Live sessions as a file, and into an empty log: who lives, since when, until when, with attributes and messages.

What a session went through is not in such a file; `lastseen.exchange.history` is for that. An import writes records
that lead to the same state at the same times: a session begins without limits, its messages come when they came, its
last activity brings its limits, then it is suspended, or held, if it was. Its version begins anew.
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

from lastseen.bulk.resumable_writer import ScriptWriter
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
_SCHEMA = "CREATE TABLE moments (at_ms INTEGER, place INTEGER, step INTEGER, key TEXT, value BLOB)"


def export_sessions(url: str, path: Path, progress: Progress = lambda done, total: None) -> Exported:
    """Write the sessions that live now on the log at `url` to `path`.

    Cut off, it goes on after its last row if the log is where it was; else the file is written anew. Raises
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
    """All live sessions in the order of their births, which nothing changes."""
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
    """What an import of sessions came to."""

    sessions: int
    skipped: list[tuple[str, str]]
    """Key and reason of each row that is no session that can be written."""
    records: int
    """What it comes to in the log, its marks included."""
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
    """Bring exported sessions into the log at `url`, which is empty, or holds this very import or its beginning.

    Rows that are no sound sessions are skipped, and told. Raises `ExportError`, `LogMismatch` where the log holds
    anything else, and the log's errors.
    """
    clock = clock or SystemClock()
    file = reader(path)
    if file.header.kind != "sessions":
        raise ExportError(f"{path} is an export of {file.header.kind}: import it with lastseen import history")
    skipped: list[tuple[str, str]] = []
    with (
        tempfile.TemporaryDirectory(prefix="lastseen-") as folder,
        closing(sqlite3.connect(Path(folder) / "moments.db", isolation_level=None)) as moments,
    ):
        moments.execute("PRAGMA synchronous = OFF")
        moments.execute(_SCHEMA)
        moments.execute("BEGIN")
        digest, seen = hashlib.sha256(), set[str]()
        for place, row in enumerate(file.rows()):
            digest.update(msgspec.json.encode(row))
            try:
                steps = list(_steps(row, seen, clock.now_ms()))
            except InvalidInput as error:
                skipped.append((str(row.get("key")), str(error)))
                continue
            moments.executemany(
                "INSERT INTO moments VALUES (?, ?, ?, ?, ?)",
                ((at_ms, place, step, row["key"], value) for step, (at_ms, value) in enumerate(steps)),
            )
            if place % PAGE == 0:
                progress(place, 2 * file.count)
        moments.execute("COMMIT")
        log = open_log(url, clock)
        try:
            found = log.end_offsets()
            script = ScriptWriter(log, found, "import of these sessions")
            for done, message in enumerate(_script(moments, log.partitions, digest.hexdigest())):
                script.put(message)
                if done % PAGE == 0:
                    progress(file.count, 2 * file.count)
            script.finish(may_go_on=True)
            progress(2 * file.count, 2 * file.count)
            return ImportedSessions(len(seen), skipped, script.written, sum(found))
        finally:
            log.close()


def _script(moments: sqlite3.Connection, partitions: int, digest: str) -> Iterator[Message]:
    first_ms, last_ms = moments.execute(
        "SELECT coalesce(min(at_ms), 0), coalesce(max(at_ms), 0) FROM moments"
    ).fetchone()
    for number in range(partitions):
        yield _mark(events.ImportStarted, "opening", number, first_ms, digest)
    for key, value in moments.execute("SELECT key, value FROM moments ORDER BY at_ms, place, step"):
        yield Message(partition_of(key, partitions), key, value)
    for number in range(partitions):
        yield _mark(events.ImportFinished, "end", number, last_ms, digest)


def _mark(kind: type[Any], name: str, number: int, at_ms: int, digest: str) -> Message:
    fields = {"sessions_sha256": digest}
    value = envelope(_kind[kind], f"import-{name}-{number}", SOURCE, SUBJECT, iso_from_ms(at_ms), fields)
    return Message(number, SUBJECT, value)


class _Said(msgspec.Struct):
    """The text of a message of a session, and when it came."""

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
    parked_ms: int
    policy: dict[str, Any]
    holders: dict[str, int]
    attributes: dict[str, Any]
    messages: list[_Said]


def _steps(row: Mapping[str, Any], seen: set[str], now_ms: int) -> Iterator[tuple[int, bytes]]:
    """The records that lead to a session, with their times. Raises `InvalidInput` where it is none."""
    try:
        given = msgspec.convert(row, _Row)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"it is no session: {error}") from None
    times = [given.created_at_ms, *(each.at_ms for each in given.messages), given.last_active_at_ms]
    if given.suspended_at_ms is not None:
        times.append(given.suspended_at_ms)
    if times != sorted(times) or times[-1] > now_ms or given.parked_ms < 0:
        raise InvalidInput("its times do not follow each other, or lie in the future")
    if given.key in seen:
        raise InvalidInput("another row has the same key")
    limits = _policy(given.policy)
    count = 0

    def event(kind: type[Any], at_ms: int, data: Any, event_id: str | None = None) -> tuple[int, bytes]:
        nonlocal count
        count += 1
        made = checked(
            lambda: kind(
                id=event_id or f"import-{given.session_id}-{count}", source=SOURCE, subject=given.key,
                time=iso_from_ms(at_ms), data=data(),
            )
        )  # fmt: skip
        return at_ms, encode(made)

    def touch(at_ms: int, event_id: str | None = None, **fields: Any) -> tuple[int, bytes]:
        return event(events.Touched, at_ms, lambda: events.TouchedData(session_id=given.session_id, **fields), event_id)

    def reasoned(kind: type[Any], at_ms: int) -> tuple[int, bytes]:
        return event(kind, at_ms, lambda: events.ReasonedData(session_id=given.session_id))

    unlimited = Policy(max_hold_ms=limits.max_hold_ms, max_messages=limits.max_messages)
    yield event(
        events.Created, given.created_at_ms,
        lambda: events.CreatedData(session_id=given.session_id, policy=unlimited, attributes=given.attributes),
    )  # fmt: skip
    left_ms, at_ms = given.parked_ms, given.created_at_ms
    for said in [*given.messages, None]:
        next_ms = given.last_active_at_ms if said is None else said.at_ms
        parked_ms = min(left_ms, next_ms - at_ms)
        if parked_ms:
            # Where it was suspended in between is not known, only for how long, and that nothing was said then.
            yield reasoned(events.Suspended, at_ms)
            yield reasoned(events.Resumed, at_ms + parked_ms)
            left_ms -= parked_ms
        if said is not None:
            yield touch(said.at_ms, said.event_id, message=said.value)
        at_ms = next_ms
    yield touch(given.last_active_at_ms, policy=limits)
    if given.suspended_at_ms is not None:
        yield reasoned(events.Suspended, given.suspended_at_ms)
    elif given.holders:
        yield from _leases(given, limits, event)
    seen.add(given.key)


def _policy(given: dict[str, Any]) -> Policy:
    try:
        return Policy(**given)
    except (ValidationError, TypeError) as error:
        raise InvalidInput(f"its policy is none: {error}") from None


def _leases(given: _Row, limits: Policy, event: Any) -> Iterator[tuple[int, bytes]]:
    """Those who hold it, each until the moment that was promised; as far as the limit allows."""
    for holder, until_ms in sorted(given.holders.items()):
        longest_ms = until_ms if limits.max_hold_ms is None else limits.max_hold_ms
        at_ms = max(given.last_active_at_ms, until_ms - longest_ms)
        if at_ms < until_ms:
            data = {"session_id": given.session_id, "holder": holder, "lease_ms": until_ms - at_ms}
            yield event(events.Held, at_ms, lambda data=data: events.HeldData(**data))

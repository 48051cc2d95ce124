"""Importing an old gateway's store into a log: `sessions.json` becomes history, with its own times.

Theory of operation. The records are always the same for the same file and options (`import_plan`). So there is one way
to begin, to continue and to repeat an import: make the plan; records that the log already holds must be the same bytes,
and the rest is appended. On a log of this machine all of it is one append, which happens or does not. On a log that
machines share, an interrupted import is continued by starting it again; no store opens the log before. Records after a
finished import are ignored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lastseen.bulk.ordered_pages import records
from lastseen.compat.gateway.config import GatewayConfig, policy_of, zone_of
from lastseen.compat.gateway.import_plan import SOURCE, Correction, ImportPlan, Skipped, plan_import, read_store
from lastseen.compat.gateway.transcripts import Transcripts
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.errors import InvalidEvent, InvalidSetting, LogMismatch
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Log, Message, Position
from lastseen.engine.log.shared_log import SharedLog
from lastseen.engine.session import Policy

BATCH_RECORDS = 1_000
"""Appended at a time where not all of it can be one append."""
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import."""

    entries: int
    """In the file."""
    imported: int
    """Sessions that the log has of it."""
    skipped: list[Skipped]
    corrections: list[Correction]
    """Optional fields of imported sessions that were dropped, or read otherwise, since they make no sense."""
    transcripts: int
    """Of the sessions imported, those with a transcript beside the file. It stays there."""
    records: int
    """Records of the import in the log, the marks of its start and end included."""
    appended: int
    """Of these, what this run has appended."""
    later: int
    """Records that have come since the import was finished."""
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        named = {name: [each._asdict() for each in getattr(self, name)] for name in ("skipped", "corrections")}
        return plain | named | {"seconds": round(self.seconds, 3)}


def is_empty(url: str) -> bool:
    """Whether the log at a URL has no record; makes a log of this machine that is not there."""
    log = open_log(url, SystemClock(), genesis=False)
    try:
        return not any(log.end_offsets())
    finally:
        log.close()


def holds_import_of(path: Path, url: str) -> bool:
    """Whether a log begins with the import of this very file, or the file is gone."""
    try:
        sha256 = read_store(path)[1]
    except (InvalidSetting, InvalidEvent):
        return True
    log = open_log(url, SystemClock(), genesis=False)
    try:
        says = _said_by(log)
    finally:
        log.close()
    return says is not None and says.get("sha256") == sha256


def import_sessions(
    path: Path,
    url: str,
    *,
    timezone: str | None = None,
    policy: Policy | None = None,
    clock: Clock | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Bring the sessions of `path`, a gateway's sessions.json, into the log at `url`, or continue an interrupted
    import.

    The old store wrote local time; `timezone` is where, if not here. Entries that are malformed, of unknown
    platforms, or from the future are skipped and reported. Raises `InvalidSetting`, `InvalidEvent` where the file is no
    store, `LogMismatch` where the log holds anything else, and the log's errors.
    """
    began_s, clock = time.perf_counter(), clock or SystemClock()
    zone = None if timezone is None else zone_of(timezone)
    entries, sha256 = read_store(path)
    log = open_log(url, clock, genesis=False)
    try:
        says = _says_of(log, {"sha256": sha256, "timezone": timezone or LOCAL}, clock.now_ms())
        plan = plan_import(
            entries,
            says,
            policy=policy or policy_of(GatewayConfig(sessions_dir=path.parent)),
            partitions=log.partitions,
            until_ms=says["until_ms"],
            zone=zone,
            progress=progress,
        )
        found, appended = _bring(log, plan.messages)
    finally:
        log.close()
    return Imported(
        entries=len(entries),
        imported=len(plan.conversations),
        skipped=plan.skipped,
        corrections=plan.corrections,
        transcripts=_transcripts(path.parent, plan),
        records=len(plan.messages),
        appended=appended,
        later=max(found + appended - len(plan.messages), 0),
        seconds=time.perf_counter() - began_s,
    )


def _transcripts(folder: Path, plan: ImportPlan) -> int:
    transcripts = Transcripts(folder)
    return sum(map(transcripts.has_any, plan.conversations))


class _Payload(msgspec.Struct):
    gateway: dict[str, Any]


class _Opening(msgspec.Struct):
    source: str
    data: _Payload


def _says_of(log: Log, wanted: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """What the first record of the import says. What was in the future when it began is still left out later."""
    if not any(log.end_offsets()):
        return {**wanted, "until_ms": now_ms}
    says = _said_by(log)
    if says is None:
        raise _foreign("it holds records, and none of an import")
    for name, value in wanted.items():
        if says.get(name) != value:
            raise _foreign(f"it holds an import with {name} {says.get(name)}, and this one has {value}")
    return says


def _said_by(log: Log) -> dict[str, Any] | None:
    """What the first record of a log says of the import that it opens; `None` where it opens none, or is not there."""
    try:
        opening = msgspec.json.decode(log.read(0, 0, 1)[0].value or b"", type=_Opening)
        says = opening.data.gateway
        return says if opening.source == SOURCE and isinstance(says["until_ms"], int) else None
    except (msgspec.DecodeError, KeyError, IndexError, LogMismatch):  # or the log was trimmed
        return None


def _bring(log: Log, messages: Sequence[Message]) -> tuple[int, int]:
    """Append what the log does not hold yet of these; returns how many records it held, and how many it got."""
    found = log.end_offsets()
    places, ends = [], [0] * log.partitions
    for message in messages:
        places.append(Position(message.partition, ends[message.partition]))
        ends[message.partition] += 1
    held = [records(log, number, min(end, ends[number])) for number, end in enumerate(found)]
    waiting, waiting_places = [], []
    for message, place in zip(messages, places, strict=True):
        if place.offset >= found[place.partition]:
            waiting.append(message)
            waiting_places.append(place)
            continue
        record = next(held[place.partition])
        if (record.key, record.value) != message[1:]:
            raise _foreign(f"its record at offset {place.offset} of partition {place.partition} is another")
    size = BATCH_RECORDS if isinstance(log, SharedLog) else max(len(waiting), 1)
    for start in range(0, len(waiting), size):
        if log.append(waiting[start : start + size]) != waiting_places[start : start + size]:
            raise _foreign("another process has written to it since")
    return sum(found), len(waiting)


def _foreign(what: str) -> LogMismatch:
    return LogMismatch(
        f"the log cannot accept an import of this file with these options: {what}. Give a log that is empty (on Kafka,"
        " made with lastseen topics create --for-import), or the one that holds this very import"
    )

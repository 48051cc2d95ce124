"""What an old store's `sessions.json` becomes: the records of a log, with the times that the old store wrote down.

An entry is brought over or not: it is read, checked as the engine checks events, and only then written. An optional
field that makes no sense costs the field and not the session, as with the old store, and is reported.
Nothing but the file and the options enters, ids included, so the same file gives the same records.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any, NamedTuple

from lastseen.compat.gateway.entry import DEFAULTS, SessionEntry, attributes_of
from lastseen.compat.gateway.platform import Platform
from lastseen.compat.gateway.surrogates import storable
from lastseen.compat.gateway.times import ms_of, utc
from lastseen.compat.gateway.transcripts import check_conversation
from lastseen.engine import events
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import checked, encode, envelope, remember
from lastseen.engine.errors import InvalidEvent, InvalidInput, InvalidSetting, shown
from lastseen.engine.genesis import SUBJECT, genesis
from lastseen.engine.log.port import Message, Record
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Partition

SOURCE = "/import/gateway"
_FAR_MS = 2**62
_MAX_TEXT = 4_096
"""Characters of an optional field that are imported."""
_FINISHED = events.ImportFinished.__dataclass_fields__["type"].default


class Skipped(NamedTuple):
    """An entry that is not imported."""

    key: str
    why: str


class Correction(NamedTuple):
    """A field of an imported entry that makes no sense: the session has it otherwise, or not at all."""

    key: str
    field: str
    why: str


class _TimedEvent(NamedTuple):
    """An event in its place: by time, and at one time a beginning before what follows it."""

    at_ms: int
    step: int
    key: str
    event: events.SessionEvent


@dataclass(slots=True)
class ImportPlan:
    """The records of an import, in order, and the entries that were skipped."""

    messages: list[Message] = field(default_factory=list)
    conversations: list[str] = field(default_factory=list)
    """The ids of the imported conversations, as the old store had them."""
    skipped: list[Skipped] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)


def read_store(path: Path) -> tuple[dict[str, Any], str]:
    """The entries of a `sessions.json` by key, and the file's SHA-256.

    Raises `InvalidSetting` where it cannot be read, `InvalidEvent` where it is not a store.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"{path} is not JSON ({error}): give the sessions.json of a gateway") from None
    if not isinstance(entries, dict):
        raise InvalidEvent(f"{path} does not hold a JSON object: give the sessions.json of a gateway")
    return entries, hashlib.sha256(content).hexdigest()


def plan_import(
    entries: Mapping[str, Any],
    says: Mapping[str, Any],
    *,
    policy: Policy,
    partitions: int,
    until_ms: int,
    zone: tzinfo | None,
    progress: Callable[[int, int], None],
) -> ImportPlan:
    """The records that the entries become. The first of each partition says `says`.

    Entries with times after `until_ms` are skipped: only the past can be imported.
    """
    plan, events_in_order = ImportPlan(), []
    for done, (key, raw) in enumerate(entries.items(), start=1):
        try:
            entry, corrections = _read_entry(key, raw, zone, until_ms)
            events_in_order += _timed_events(entry, policy)
        except InvalidInput as error:
            plan.skipped.append(Skipped(key, str(error)))
        else:
            plan.conversations.append(entry.session_id)
            plan.corrections += corrections
        if done % 1_000 == 0 or done == len(entries):
            progress(done, len(entries))
    events_in_order.sort(key=lambda timed: timed[:3])
    folded = [Partition(number) for number in range(partitions)]
    first_ms, last_ms = (events_in_order[0].at_ms, events_in_order[-1].at_ms) if events_in_order else (0, 0)
    log_id = hashlib.sha256(json.dumps(says).encode()).hexdigest()[:32]
    for number in range(partitions):
        opening = genesis(
            log_id, number, partitions, first_ms,
            source=SOURCE, event_id=f"import-opening-{number}", imports=True, more={"gateway": dict(says)},
        )  # fmt: skip
        _put(plan, folded, opening)
    for timed in events_in_order:
        value = encode(timed.event)
        remember(value, timed.event, timed.at_ms)
        _put(plan, folded, Message(partition_of(timed.key, partitions), timed.key, value))
    for number in range(partitions):
        _put(plan, folded, Message(number, SUBJECT, _finished(f"import-end-{number}", last_ms, says)))
    return plan


def _put(plan: ImportPlan, folded: list[Partition], message: Message) -> None:
    """Add a record, after checking that it takes effect: every record of an import does."""
    partition = folded[message.partition]
    outcome = partition.fold(Record(partition.number, partition.checkpoint, _FAR_MS, message.key, message.value))
    if outcome.verdict is not Verdict.APPLIED:
        raise InvalidEvent(
            f"session {shown(message.key)} becomes a record that is void ({outcome.verdict.label}); report this"
        )
    plan.messages.append(message)


def _finished(event_id: str, at_ms: int, says: Mapping[str, Any]) -> bytes:
    return envelope(_FINISHED, event_id, SOURCE, SUBJECT, iso_from_ms(at_ms), {"gateway": dict(says)})


# ── one entry ──


def _read_entry(key: str, raw: Any, zone: tzinfo | None, until_ms: int) -> tuple[SessionEntry, list[Correction]]:
    """An entry of the old store, and what was corrected in it. Raises `InvalidEvent` that says what is wrong."""
    if not isinstance(raw, dict):
        raise InvalidEvent("it is not a JSON object")
    missing = [name for name in ("session_key", "session_id", "created_at", "updated_at") if not raw.get(name)]
    if missing:
        raise InvalidEvent(f"it has no {', '.join(missing)}")
    if raw["session_key"] != key:
        raise InvalidEvent(f"its session_key differs: {shown(raw['session_key'])}")
    check_conversation(raw["session_id"])
    raw = {name: value for name, value in raw.items() if value is not None}
    corrections = [Correction(key, name, why) for name, why in _correct(raw, zone)]
    _check_platforms(raw)
    try:
        entry = SessionEntry.from_dict(raw, zone)
        updated_ms = ms_of(entry.updated_at)
        created_ms = ms_of(entry.created_at)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InvalidEvent(f"it cannot be read: {error!r}") from None
    for name, at_ms in (("created_at", created_ms), ("updated_at", updated_ms)):
        if at_ms > until_ms:
            raise InvalidEvent(f"its {name} {raw[name]} is in the future: check --timezone")
    return entry, corrections


def _correct(raw: dict[str, Any], zone: tzinfo | None) -> Iterator[tuple[str, str]]:
    """Correct the optional fields of an entry; yields which, and how.

    Marks count by their truth, as in the old store: a suspended session stays suspended, however that was written.
    """
    for name, default in {**DEFAULTS, "suspended": False, "memory_flushed": False}.items():
        value = raw.get(name)
        if value is None or (_is_like(value, default) and _fits(value)):
            continue
        if isinstance(default, bool):
            raw[name] = bool(value)
            yield name, f"it is {shown(value)}, which is read as {str(raw[name]).lower()}"
        else:
            del raw[name]
            yield name, f"it is {shown(value)}, which is dropped"
    marked_at = raw.get("last_resume_marked_at")
    try:
        iso_from_ms(ms_of(utc(marked_at, zone))) if marked_at else None
    except (ValueError, TypeError, OverflowError, OSError):
        del raw["last_resume_marked_at"]
        yield "last_resume_marked_at", f"it is {shown(marked_at)}, which is dropped"


def _fits(value: Any) -> bool:
    """Whether an attribute can hold this text or number."""
    if isinstance(value, str):
        is_half_a_pair = any("\ud800" <= each <= "\udfff" for each in value)
        return len(value) <= _MAX_TEXT and not is_half_a_pair
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


def _is_like(value: Any, default: Any) -> bool:
    if default is None:
        return isinstance(value, str)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def _check_platforms(raw: Mapping[str, Any]) -> None:
    origin = raw.get("origin") or {}
    if not isinstance(origin, dict):
        raise InvalidEvent(f"its origin is {shown(origin)}")
    for name in (raw.get("platform"), origin.get("platform")):
        try:
            Platform(name) if name else None
        except ValueError:
            raise InvalidEvent(
                f"unknown platform {shown(name)}: if a plugin added it, name it with --platform"
            ) from None


def _timed_events(entry: SessionEntry, policy: Policy) -> list[_TimedEvent]:
    """The events of one entry. Raises `InvalidInput` where one is out of bounds."""
    key, updated_ms = storable(entry.session_key), ms_of(entry.updated_at)
    created_ms = min(ms_of(entry.created_at), updated_ms)
    name = hashlib.sha256(f"{key}\n{entry.session_id}".encode("utf-8", "surrogatepass")).digest()
    life = base64.urlsafe_b64encode(name)[:22].decode("ascii")
    found: list[_TimedEvent] = []

    def add(step: int, at_ms: int, kind: Any, data: Callable[[], Any]) -> None:
        event = checked(
            lambda: kind(id=f"import-{life}-{step}", source=SOURCE, subject=key, time=iso_from_ms(at_ms), data=data())
        )
        found.append(_TimedEvent(at_ms, step, key, event))

    attributes = attributes_of(entry) | {"conversation": entry.session_id}
    add(0, created_ms, events.Created,
        lambda: events.CreatedData(session_id=life, policy=policy, attributes=attributes))  # fmt: skip
    if updated_ms > created_ms:
        add(1, updated_ms, events.Touched, lambda: events.TouchedData(session_id=life))
    if entry.suspended:
        add(2, updated_ms, events.Suspended, lambda: events.ReasonedData(session_id=life, reason="imported"))
    return found

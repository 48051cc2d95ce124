"""Facts: the effects of applied records, with the session's state after each, for others to follow without the rules.

A record has at most two effects: it settles or ends a session, and then begins or changes one. A fact is named by its
place, (partition, offset, k), so that publishing it twice publishes the same fact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from lastseen.engine import events
from lastseen.engine.clock import EARLIEST_MS, LATEST_MS, iso_from_ms
from lastseen.engine.log.port import Record
from lastseen.engine.session import Ending, Session
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome

FACT_TYPE = "lastseen.fact.{kind}.v1"
STATE_TYPE = "lastseen.state.v1"
_TOUCHED = events.NAMES[events.Touched]


class FactId(NamedTuple):
    """The place of a fact: the record that caused it, and which of the record's effects it is."""

    partition: int
    offset: int
    k: int


class Fact(NamedTuple):
    """One effect. `kind` is `ended`, or the name of the event that took effect."""

    id: FactId
    kind: str
    key: str
    session_id: str
    at_ms: int
    """The log time of the effect; for a session that was settled, its deadline."""
    reason: str | None
    """Why it ended; `None` for all else."""
    state: dict[str, Any] | None
    """The session after the effect, without its body; `None` once it has ended."""


def state_of(session: Session) -> dict[str, Any]:
    """A session's state as plain JSON values."""
    return {
        "key": session.key,
        "session_id": session.session_id,
        "status": session.status.value,
        "version": session.version,
        "owner": session.owner,
        "created_at_ms": session.created_at_ms,
        "last_active_at_ms": session.last_active_at_ms,
        "deadline_ms": session.deadline_ms(),
        "holders": dict(session.leases or {}),
    }


class Effect(NamedTuple):
    """What a record did, as far as facts report it. Kept in memory until it is published."""

    offset: int
    at_ms: int
    kind: str
    ended: Session | None
    ending: Ending | None
    session: Session | None
    """The session as it was right after the record; a copy, since it goes on changing."""


def touch_effect(offset: int, at_ms: int, session: Session) -> Effect:
    """The effect of a plain touch of `session`. Call it at once, before the next record is folded on it."""
    return Effect(offset, at_ms, _TOUCHED, None, None, session.__copy__())  # type: ignore[attr-defined]


def effect_of(outcome: Outcome) -> Effect | None:
    """The effect of a record; `None` if it had none. Call it at once, before the next record is folded on it."""
    record, event, verdict, at_ms, session, ended, ending = outcome
    if verdict is not Verdict.APPLIED:
        session = None
    if event is None or (session is None and ended is None):
        return None
    copy = None if session is None else session.__copy__()  # type: ignore[attr-defined]
    return Effect(record.offset, at_ms, events.NAMES[type(event)], ended, ending, copy)


def facts_of(partition: int, effect: Effect) -> Iterator[Fact]:
    """The facts that a record caused, in order."""
    k = 0
    offset, at_ms, kind, ended, ending, session = effect
    if ended is not None and ending is not None:
        place = FactId(partition, offset, k)
        yield Fact(place, "ended", ended.key, ended.session_id, ending.at_ms, ending.reason, None)
        k += 1
    if session is not None:
        place = FactId(partition, offset, k)
        yield Fact(place, kind, session.key, session.session_id, at_ms, None, state_of(session))


def encode(fact: Fact, source: str) -> bytes:
    """A fact as a CloudEvent (structured JSON); its source and id do not depend on the publisher."""
    partition, offset, k = fact.id
    body = {
        "kind": fact.kind,
        "partition": partition,
        "offset": offset,
        "k": k,
        "session_id": fact.session_id,
        "at_ms": fact.at_ms,
        "reason": fact.reason,
        "state": fact.state,
    }
    return _event(FACT_TYPE.format(kind=fact.kind), fact.id, source, fact.key, fact.at_ms, body)


def encode_state(fact_id: FactId, source: str, at_ms: int, state: dict[str, Any]) -> bytes:
    """A session's state after a fact, as a CloudEvent (structured JSON)."""
    return _event(STATE_TYPE, fact_id, source, state["key"], at_ms, state)


def _event(kind: str, fact_id: FactId, source: str, key: str, at_ms: int, body: dict[str, Any]) -> bytes:
    event = {
        "specversion": "1.0",
        "id": "{}-{}-{}".format(*fact_id),
        "source": source,
        "type": kind,
        "subject": key,
        "time": iso_from_ms(at_ms),
        "datacontenttype": "application/json",
        "data": body,
    }
    if not EARLIEST_MS <= at_ms <= LATEST_MS:
        del event["time"]  # RFC 3339 cannot write it
    return msgspec.json.encode(event)


class _StateEvent(msgspec.Struct):
    data: Any


class _StateEnvelope(msgspec.Struct):
    source: str
    subject: str


def is_state(record: Record, source: str) -> bool:
    """Whether a record in the topic of states may be an owner's, of the log named `source`: a state, or a tombstone."""
    if record.mark is not None or record.key is None:
        return False
    if record.value is None:
        return True
    try:
        event = msgspec.json.decode(record.value, type=_StateEnvelope)
    except ValueError:  # msgspec's errors are such
        return False
    return (event.source, event.subject) == (source, record.key)


def published_state(encoded: bytes | None) -> Any:
    """The state in a published record; `None` for a tombstone, and something else for what is no state."""
    if encoded is None:
        return None
    try:
        return msgspec.json.decode(encoded, type=_StateEvent).data
    except (ValueError, msgspec.DecodeError):
        return encoded  # equal to no state


class _FactEvent(msgspec.Struct):
    id: str
    source: str


def published_fact_id(record: Record, source: str) -> FactId | None:
    """The id that a record in the topic of facts claims; `None` where it cannot be a fact of the log named `source`."""
    if record.mark is not None or record.key is None or record.value is None:
        return None
    try:
        event = msgspec.json.decode(record.value, type=_FactEvent)
        partition, offset, k = map(int, event.id.split("-"))
    except ValueError:  # msgspec's errors are such
        return None
    return FactId(partition, offset, k) if event.source == source else None

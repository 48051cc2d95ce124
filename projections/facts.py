"""Facts: the effects of applied records, with the session's state after each, for others to follow without the rules.

A record has at most two effects: it settles or ends a session, and then begins or changes one. A fact is named by its
place, (partition, offset, k), so that whoever publishes it twice publishes the same fact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from engine import events
from engine.session import Session
from engine.verdicts import Verdict
from projections.partition import Outcome


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


def facts_of(outcome: Outcome) -> Iterator[Fact]:
    """The facts that a record caused, in order."""
    k = 0
    place = outcome.record.partition, outcome.record.offset
    if outcome.ended is not None and outcome.ending is not None:
        ended, ending = outcome.ended, outcome.ending
        yield Fact(FactId(*place, k), "ended", ended.key, ended.session_id, ending.at_ms, ending.reason, None)
        k += 1
    if outcome.verdict is Verdict.APPLIED and outcome.session is not None and outcome.event is not None:
        session, kind = outcome.session, events.name_of(outcome.event)
        yield Fact(FactId(*place, k), kind, session.key, session.session_id, outcome.at_ms, None, state_of(session))

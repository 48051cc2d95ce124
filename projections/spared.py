"""Which sessions a guard keeps alive: suspended on purpose, or held by a job, and otherwise over by now."""

from __future__ import annotations

from typing import NamedTuple

from lastseen.engine.session import Session
from lastseen.projections.live_view import LiveView


class Spared(NamedTuple):
    """One session that lives only because of a guard."""

    partition: int
    key: str
    session_id: str
    guard: str
    """`suspended` or `held`."""
    over_since_ms: int
    """The log time at which its idle limit would have ended it."""


class Guarded(NamedTuple):
    """Those sessions: the first of them, longest over first, and how many there are."""

    first: list[Spared]
    total: int


def guarded(view: LiveView, now_ms: int, limit: int, prefix: str = "") -> Guarded:
    """The sessions that would have idled out by `now_ms`, were it not for a guard. Looks at every live session."""
    found = []
    times = view.reading_times(now_ms)
    for partition, session in view.walk.sessions(prefix=prefix):
        at_ms = times[partition.number]
        guard = _guard(session, at_ms)
        over_ms = None if guard is None else _idle_since_ms(session)
        if guard is not None and over_ms is not None and over_ms <= at_ms and session.key.startswith(prefix):
            found.append(Spared(partition.number, session.key, session.session_id, guard, over_ms))
    found.sort(key=lambda spared: (spared.over_since_ms, spared.key))
    return Guarded(found[:limit], len(found))


def _guard(session: Session, now_ms: int) -> str | None:
    if session.is_due(now_ms):
        return None
    if session.suspended_at_ms is not None:
        return "suspended"
    return "held" if session.held_at(now_ms) else None


def _idle_since_ms(session: Session) -> int | None:
    policy = session.policy
    if policy.idle_ttl_ms is None:
        return None
    return session.last_active_at_ms + policy.idle_ttl_ms + policy.touch_precision_ms

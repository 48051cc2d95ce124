"""Ending sessions that were not used for long: in LRU order, so that it costs what is old and not what is live.

No limit of a policy does this, on purpose: whether a background process still works for a session is known to the
gateway alone, at the very moment, and another service's pruner could not ask it. So the gateway closes what it may.
Each closing names the version that was looked at: a session that is used meanwhile lives on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from lastseen.compat.gateway.entry import updated_ms
from lastseen.compat.gateway.sessions import Sessions
from lastseen.compat.gateway.source import PREFIX
from lastseen.embedded.engine import Engine
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import envelope
from lastseen.engine.errors import shown
from lastseen.engine.events import Closed
from lastseen.engine.identifiers import new_event_ids
from lastseen.engine.log.port import Message
from lastseen.engine.session import Status
from lastseen.engine.session_engine import verdict_of
from lastseen.engine.verdicts import Verdict
from lastseen.projections.live_view import Unused

_logger = logging.getLogger("lastseen")
BATCH = 1_000
"""Sessions closed in one append."""
REASON = "pruned"
_CLOSED = Closed.__dataclass_fields__["type"].default


def prune(sessions: Sessions, before_ms: float, now_ms: int, source: str, is_busy: Callable[[str], bool]) -> int:
    """Close the sessions that were last used before a time, but for the busy; returns how many that ended.

    Where none is old nothing is written. Raises `LogError`.
    """
    engine = sessions.engine
    found = [each for each in engine.unused_since(before_ms, f"{PREFIX}:") if each.key not in sessions.by_hand]
    old = [each for each in [*found, *_old_by_hand(sessions, before_ms)] if not is_busy(each.key)]
    return sum(_close(engine, old[start : start + BATCH], now_ms, source) for start in range(0, len(old), BATCH))


def _old_by_hand(sessions: Sessions, before_ms: float) -> Iterator[Unused]:
    """Of the sessions whose time a caller has set, those whose time is before."""
    for key in list(sessions.by_hand):
        view = sessions.get(key)
        if view is None:
            sessions.by_hand.discard(key)
        elif view.status is not Status.SUSPENDED and updated_ms(view) < before_ms:
            yield Unused(sessions.engine.partition_of(key), key, view.session_id, view.version)


def _close(engine: Engine, old: Sequence[Unused], now_ms: int, source: str) -> int:
    event_ids, time = new_event_ids(now_ms, len(old)), iso_from_ms(now_ms)
    messages = [
        Message(each.partition, each.key, envelope(_CLOSED, event_id, source, each.key, time, {
            "session_id": each.session_id, "if_version": each.version, "reason": REASON,
        }))
        for each, event_id in zip(old, event_ids, strict=True)
    ]  # fmt: skip
    answers = engine.append_and_answer(messages, event_ids)
    return sum(verdict_of(answer) is Verdict.APPLIED for answer in answers)


def is_busy(has_active_processes: Callable[[str], bool] | None, session_key: str) -> bool:
    """Whether a background process works for a session, by the gateway's own answer; one that fails keeps it."""
    if has_active_processes is None:
        return False
    try:
        return bool(has_active_processes(session_key))
    except Exception as error:  # it is the gateway's own, and may raise anything
        _logger.warning("whether a process works for session %s is unknown (%r): it is kept", shown(session_key), error)
        return True

"""What commands check on the live session before they make an event. The rules stand in `engine.lifecycle`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lastseen.engine import events
from lastseen.engine.errors import InvalidEvent, SessionEnd, shown
from lastseen.engine.merge_patch import merge_patch
from lastseen.engine.refusals import ended, refusal
from lastseen.engine.session import Session, SessionView
from lastseen.engine.verdicts import Verdict
from lastseen.engine.view import PartitionState


def live_session(
    key: str, session: Session | None, session_id: str | None, now_ms: int, partition: PartitionState
) -> Session:
    """`session`, found under `key`, if it is live at `now_ms` and, where `session_id` is given, that very session.

    Raises `SessionNotFound`, `SessionEnded` or `StaleSession`.
    """
    if session is None:
        has_ended = session_id is not None and partition.has_ended(session_id)
        raise refusal(Verdict.ENDED if has_ended else Verdict.NO_SESSION, key, session_id=session_id)
    due_ms = session.deadline_ms()
    if due_ms is not None and now_ms >= due_ms:
        if session_id is not None and session.session_id != session_id:
            raise refusal(Verdict.ENDED, key, session_id=session_id)
        raise ended(key, SessionEnd(session.session_id, session.created_at_ms, due_ms, session.reason_at(due_ms)))
    if session_id is not None and session.session_id != session_id:
        has_ended = partition.has_ended(session_id)
        raise refusal(Verdict.ENDED if has_ended else Verdict.STALE_SESSION, key, session_id=session_id)
    return session


def is_coalesced(session: Session, now_ms: int) -> bool:
    """Whether a plain touch follows the last activity so soon that the policy does not write it."""
    precision_ms = session.policy.touch_precision_ms
    return (
        precision_ms > 0 and session.suspended_at_ms is None and 0 <= now_ms - session.last_active_at_ms < precision_ms
    )


def check_merged(current: SessionView, patch: Mapping[str, Any]) -> None:
    """Raise `InvalidEvent` for a merge patch that would make the attributes larger than the limit."""
    try:
        size = len(msgspec.json.encode(merge_patch(dict(current.attributes), dict(patch))))
    except (TypeError, ValueError, RecursionError):
        return  # the event's own check says what is wrong with it
    if size > events.MAX_ATTRIBUTES_BYTES:
        raise InvalidEvent(
            f"session key {shown(current.key)}: with this patch its attributes would take {size} bytes of JSON, and the"
            f" limit is {events.MAX_ATTRIBUTES_BYTES}; delete some (set them to None), or keep the rest elsewhere"
        )

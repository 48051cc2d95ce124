"""Events that this process makes itself, from parts that it knows to be valid: plain touches, and expiries.

They are written without being validated, and remembered until they come back from the log: `engine.codec.decode` then
finds the event instead of parsing it. That changes no result, for the bytes are compared and the event is the one that
parsing them gives (a test holds that); it saves a third of the fold of a touch and two thirds of that of an expiry.
Nothing is remembered that a caller could still change, such as attributes.
"""

from __future__ import annotations

from typing import Any

from lastseen.engine import events, plain_touch
from lastseen.engine.clock import LATEST_MS
from lastseen.engine.codec import envelope, remember, remember_touch
from lastseen.engine.plain_touch import OwnTouch
from lastseen.engine.session import MAX_LIMIT_MS

_EXPIRED = events.Expired.__dataclass_fields__["type"].default
_new = object.__new__
_tuple = tuple.__new__
"""Makes a named tuple in half the time that its class takes."""


def touch(event_id: str, source: str, key: str, time: str, sent_at_ms: int, session_id: str) -> bytes:
    """The bytes of a touch that says no more than which session. `time` is `sent_at_ms` as text."""
    value = plain_touch.written(event_id, source, key, time, session_id)
    if sent_at_ms <= LATEST_MS:  # what lies beyond cannot be written, and is no time when it is read
        remember_touch(value, _tuple(OwnTouch, (key, session_id, event_id, source, time, sent_at_ms)))
    return value


def expiry(
    event_id: str,
    source: str,
    key: str,
    time: str,
    sent_at_ms: int,
    session_id: str,
    reason: str,
    deadline_ms: int,
    if_version: int | None,
    max_sessions: int | None = None,
) -> bytes:
    """The bytes of an `expired` event, for a reason of `events.ExpiryReason`. `time` is `sent_at_ms` as text."""
    fields: dict[str, Any] = {"session_id": session_id, "reason": reason, "deadline_ms": deadline_ms}
    if if_version is not None:
        fields["if_version"] = if_version
    if max_sessions is not None:
        fields["max_sessions"] = max_sessions
    value = envelope(_EXPIRED, event_id, source, key, time, fields)
    if sent_at_ms > LATEST_MS or not 0 <= deadline_ms <= MAX_LIMIT_MS:
        return value  # not to be read back
    data: Any = _new(events.ExpiredData)
    data.session_id = session_id
    data.if_version = if_version
    data.reason = reason
    data.deadline_ms = deadline_ms
    data.max_sessions = max_sessions
    event = _new(events.Expired)
    event.specversion = "1.0"
    event.id = event_id
    event.source = source
    event.subject = key
    event.time = time
    event.datacontenttype = "application/json"
    event.type = _EXPIRED
    event.data = data
    remember(value, event, sent_at_ms)
    return value

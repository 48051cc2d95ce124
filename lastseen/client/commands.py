"""The calls of a client, by the names of the engine's methods. Both clients, waiting and not, are made of these."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from lastseen.api.paths import PRUNE, SESSIONS, TOUCHES
from lastseen.api.requests import (
    MAX_TOUCHES,
    CloseRequest,
    HoldRequest,
    Limits,
    OpenRequest,
    PruneRequest,
    ReasonRequest,
    ReleaseRequest,
    RotateRequest,
    TouchManyRequest,
    TouchRequest,
)
from lastseen.api.responses import Session
from lastseen.api.service_responses import PrunePlan
from lastseen.client import responses as responses
from lastseen.client.call import Call, body, path_for
from lastseen.client.reads import read_session
from lastseen.client.responses import TouchedSession
from lastseen.engine.codec import check_key
from lastseen.engine.durations import UNCHANGED, Limit, limit_ms
from lastseen.engine.errors import (
    AlreadyDone,
    InvalidEvent,
    InvalidSetting,
    LastseenError,
    SessionEnded,
    SessionExists,
    SessionNotFound,
    StaleSession,
    VersionConflict,
    shown,
)
from lastseen.engine.events import check_json
from lastseen.engine.session import Policy
from lastseen.engine.session_engine import Wait

_REPLACED = (SessionNotFound, SessionEnded, StaleSession)
_ANY_SIZE = sys.maxsize
"""The service checks sizes, by its own limits."""


def open(  # noqa: A001 - the engine's name for it
    key: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    touch: bool = False,
    idle_ttl: Limit = UNCHANGED,
    max_age: Limit = UNCHANGED,
    suspend_ttl: Limit = UNCHANGED,
) -> Call[Session]:
    """The session that lives under `key`; a new one if there is none. Opening a live one does not touch it.

    With `touch`, a live one is touched in the same step, unless it is suspended. `idle_ttl`, `max_age` and
    `suspend_ttl` are the limits of a new session where they differ from `policy`: `"1h30m"`, a `timedelta`, or `None`
    for no limit.
    """
    check_key(key)
    sent = _sent_limits(idle_ttl, max_age, suspend_ttl)
    content = body(OpenRequest(key, _object(attributes), _limits(policy), touch=touch, **sent))
    return Call("POST", SESSIONS, responses.session_of(key), key=key, content=content, is_repeatable=True)


def create(
    key: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    idle_ttl: Limit = UNCHANGED,
    max_age: Limit = UNCHANGED,
    suspend_ttl: Limit = UNCHANGED,
) -> Call[Session]:
    """Begin a session. Raises `SessionExists` if one lives under the key."""
    check_key(key)
    sent = _sent_limits(idle_ttl, max_age, suspend_ttl)
    content = body(OpenRequest(key, _object(attributes), _limits(policy), "refuse", **sent))
    return Call(
        "POST", SESSIONS, responses.session_of(key), key=key, content=content, is_repeatable=True,
        headers={"Idempotency-Key": secrets.token_urlsafe(24)}, unclear_errors=(SessionExists,),
    )  # fmt: skip


def rotate(
    key: str,
    *,
    reason: str = "rotated",
    attributes: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    session_id: str | None = None,
    if_version: int | None = None,
) -> Call[Session]:
    """End the live session and begin another under its key, in one step.

    Attributes and limits carry over unless given. Raises `SessionNotFound` or `SessionEnded` if none lives.
    """
    content = body(RotateRequest(reason, _object(attributes), _limits(policy), session_id))
    return Call(
        "POST", path_for(key, "rotate"), responses.session_of(key), key=key,
        content=content, headers=_match(if_version),
        is_repeatable=session_id is not None, unclear_errors=(*_REPLACED, VersionConflict),
    )  # fmt: skip


def touch(
    key: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    message: Any = None,
    policy: Policy | None = None,
    session_id: str | None = None,
    if_version: int | None = None,
    wait: Wait = "applied",
) -> Call[Session | None]:
    """Activity: the idle clock restarts. May carry a merge patch of the attributes, a message, new limits.

    Returns the session once the touch is folded; with `wait="appended"` nothing, once the log has it; with
    `wait="none"` nothing, at once. A touch with a message is not sent again when its outcome is unknown.
    """
    is_plain = attributes is None and policy is None and if_version is None
    content = body(TouchRequest(session_id, _object(attributes), _json("message", message), _limits(policy)))
    return Call(
        "POST", path_for(key, "touch"), responses.touched_of(key), key=key,
        content=None if content == b"{}" else content,
        query={} if wait == "applied" else {"wait": str(wait)}, headers=_match(if_version),
        is_repeatable=message is None and (is_plain or session_id is not None), unclear_errors=(VersionConflict,),
    )  # fmt: skip


def update(
    key: str, attributes: Mapping[str, Any], *, session_id: str | None = None, if_version: int | None = None
) -> Call[Session]:
    """Merge `attributes` into the session's (RFC 7396: `None` deletes). Counts as activity."""
    return Call(
        "POST", path_for(key, "touch"), responses.session_of(key), key=key, headers=_match(if_version),
        content=body(TouchRequest(session_id, _object(attributes))),
        is_repeatable=session_id is not None, unclear_errors=(VersionConflict,),
    )  # fmt: skip


def touch_many(keys: Iterable[str], *, wait: Wait = "applied") -> Call[Sequence[TouchedSession | LastseenError | None]]:
    """Touch up to 10,000 sessions in one append; for each key its session, or the error that refused it."""
    wanted = [*keys]
    if len(wanted) > MAX_TOUCHES:
        raise InvalidSetting(f"touch_many: {len(wanted)} keys are too many; give at most {MAX_TOUCHES} at a time")
    content = body(TouchManyRequest(wanted, wait))
    return Call("POST", TOUCHES, responses.touches_of(wanted), content=content, is_repeatable=True)


def suspend(
    key: str, *, reason: str | None = None, session_id: str | None = None, if_version: int | None = None
) -> Call[Session]:
    """Suspend the session: it neither idles out nor is evicted until it is resumed or its `suspend_ttl_ms` has
    passed."""
    return _change_state("suspend", key, reason, session_id, if_version)


def resume(
    key: str, *, reason: str | None = None, session_id: str | None = None, if_version: int | None = None
) -> Call[Session]:
    """Take a suspended session up again; counts as activity."""
    return _change_state("resume", key, reason, session_id, if_version)


def _change_state(
    verb: str, key: str, reason: str | None, session_id: str | None, if_version: int | None
) -> Call[Session]:
    return Call(
        "POST", path_for(key, verb), responses.session_of(key), key=key,
        content=body(ReasonRequest(reason, session_id)),
        headers=_match(if_version), is_repeatable=session_id is not None, done_errors=(AlreadyDone,),
        then=read_session(key), unclear_errors=(VersionConflict,),
    )  # fmt: skip


def take_lease(
    key: str, holder: str, lease_ms: int, session_id: str | None = None, if_version: int | None = None
) -> Call[Session]:
    """Take, or renew, one lease; `hold` does this for you. Raises `TooManyHolders`."""
    return Call(
        "POST", path_for(key, "hold"), responses.session_of(key), key=key, headers=_match(if_version),
        content=body(HoldRequest(holder, lease_ms, session_id)), is_repeatable=True, unclear_errors=(VersionConflict,),
    )  # fmt: skip


def release(key: str, holder: str, session_id: str | None = None, if_version: int | None = None) -> Call[Session]:
    """Give a lease up. Raises `AlreadyDone` if the holder has none."""
    return Call(
        "POST", path_for(key, "release"), responses.session_of(key), key=key,
        content=body(ReleaseRequest(holder, session_id)), headers=_match(if_version), is_repeatable=True,
        done_errors=(AlreadyDone,), then=read_session(key), unclear_errors=(VersionConflict,),
    )  # fmt: skip


def close(
    key: str, *, reason: str = "deleted", session_id: str | None = None, if_version: int | None = None
) -> Call[None]:
    """End the session, held or not. Raises `SessionNotFound` or `SessionEnded` if none lives."""
    return Call(
        "POST", path_for(key, "close"), responses.nothing, key=key,
        content=body(CloseRequest(reason, UNSET if session_id is None else session_id)),
        headers=_match(if_version), is_repeatable=session_id is not None, done_errors=_REPLACED,
        unclear_errors=(VersionConflict,),
    )  # fmt: skip


# ── maintenance ──


def prune(*, dry_run: bool = False) -> Call[PrunePlan]:
    """End the sessions that are due or too many; with `dry_run`, only say which. At most 10,000 at a time.

    Returns the plan; once it was carried out, with the `outcome` of each session.
    """
    return Call("POST", PRUNE, responses.plan, is_repeatable=True, follow=None if dry_run else _apply_plan)


def _apply_plan(plan: PrunePlan) -> Call[PrunePlan] | None:
    if not plan.due:
        return None
    # The service executes a plan once, so this call is not repeatable: a second one would be refused.
    return Call("POST", PRUNE, responses.plan, content=body(PruneRequest(plan.plan)))


# ── what they are made of ──


def _match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _object(attributes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if attributes is None:
        return None
    if not isinstance(attributes, Mapping):
        raise InvalidEvent(f"attributes = {shown(attributes)}: give a mapping from names to JSON values")
    plain = dict(attributes)
    _json("attributes", plain)
    return plain


def _json(name: str, value: Any) -> Any:
    """`value` if it is JSON: bytes and dates would be encoded as text, and come out as text. Raises `InvalidEvent`."""
    try:
        return check_json(value, _ANY_SIZE)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidEvent(f"{name} = {shown(value)}: {error}; give JSON values") from None


def _sent_limits(idle_ttl: Limit, max_age: Limit, suspend_ttl: Limit) -> dict[str, Any]:
    """The single limits of a request, as text. Raises `InvalidSetting`."""
    given = {"idle_ttl": idle_ttl, "max_age": max_age, "suspend_ttl": suspend_ttl}
    return {
        name: None if value is None else f"{limit_ms(name, value)}ms"
        for name, value in given.items()
        if value is not UNCHANGED
    }


def _limits(policy: Policy | None) -> Limits | None:
    return None if policy is None else Limits(**{name: getattr(policy, name) for name in Limits.__struct_fields__})

"""The calls of a client, by the names of the engine's methods. Both clients, waiting and not, are made of these."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from lastseen.api.paths import ENDED, PRUNE, SESSIONS, STATISTICS, TOUCHES, path_of
from lastseen.api.positions import position_text
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
from lastseen.client.call import Call, body
from lastseen.client.responses import RemotePage, TouchedSession
from lastseen.engine.arguments import ANY, Anything, wanted_status, wanted_text
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
from lastseen.engine.log.port import Position
from lastseen.engine.session import Policy, Status
from lastseen.engine.session_engine import Wait
from lastseen.projections.bodies import Message
from lastseen.projections.explain import Explanation
from lastseen.projections.history import Entry
from lastseen.projections.listing import Sort
from lastseen.projections.session_spans import SessionSpan, SpanPage

_GONE = (SessionNotFound, SessionEnded)
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
        "POST", _path(key, "rotate"), responses.session_of(key), key=key, content=content, headers=_match(if_version),
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
        "POST", _path(key, "touch"), responses.touched_of(key), key=key, content=None if content == b"{}" else content,
        query={} if wait == "applied" else {"wait": str(wait)}, headers=_match(if_version),
        is_repeatable=message is None and (is_plain or session_id is not None), unclear_errors=(VersionConflict,),
    )  # fmt: skip


def update(
    key: str, attributes: Mapping[str, Any], *, session_id: str | None = None, if_version: int | None = None
) -> Call[Session]:
    """Merge `attributes` into the session's (RFC 7396: `None` deletes). Counts as activity."""
    return Call(
        "POST", _path(key, "touch"), responses.session_of(key), key=key, headers=_match(if_version),
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
        "POST", _path(key, verb), responses.session_of(key), key=key, content=body(ReasonRequest(reason, session_id)),
        headers=_match(if_version), is_repeatable=session_id is not None, done_errors=(AlreadyDone,),
        then=_read_session(key), unclear_errors=(VersionConflict,),
    )  # fmt: skip


def take_lease(
    key: str, holder: str, lease_ms: int, session_id: str | None = None, if_version: int | None = None
) -> Call[Session]:
    """Take, or renew, one lease; `hold` does this for you. Raises `TooManyHolders`."""
    return Call(
        "POST", _path(key, "hold"), responses.session_of(key), key=key, headers=_match(if_version),
        content=body(HoldRequest(holder, lease_ms, session_id)), is_repeatable=True, unclear_errors=(VersionConflict,),
    )  # fmt: skip


def release(key: str, holder: str, session_id: str | None = None, if_version: int | None = None) -> Call[Session]:
    """Give a lease up. Raises `AlreadyDone` if the holder has none."""
    return Call(
        "POST", _path(key, "release"), responses.session_of(key), key=key,
        content=body(ReleaseRequest(holder, session_id)), headers=_match(if_version), is_repeatable=True,
        done_errors=(AlreadyDone,), then=_read_session(key), unclear_errors=(VersionConflict,),
    )  # fmt: skip


def close(
    key: str, *, reason: str = "deleted", session_id: str | None = None, if_version: int | None = None
) -> Call[None]:
    """End the session, held or not. Raises `SessionNotFound` or `SessionEnded` if none lives."""
    return Call(
        "POST", _path(key, "close"), responses.nothing, key=key,
        content=body(CloseRequest(reason, UNSET if session_id is None else session_id)),
        headers=_match(if_version), is_repeatable=session_id is not None, done_errors=_REPLACED,
        unclear_errors=(VersionConflict,),
    )  # fmt: skip


# ── reads: none of them touches ──


def get(key: str) -> Call[Session | None]:
    """The session that lives under `key`, or `None`."""
    return _read_call(_path(key), responses.session_or_none(key), key=key, none_errors=_GONE)


def _read_session(key: str) -> Call[Session]:
    return _read_call(_path(key), responses.session_of(key), key=key, none_errors=_GONE)


def list(  # noqa: A001 - the engine's name for it
    *,
    sort: Sort = "lru",
    status: Status | str | Anything = ANY,
    prefix: str | Anything = ANY,
    owner: str | Anything = ANY,
    limit: int = 100,
    cursor: str | None = None,
) -> Call[RemotePage]:
    """A page of live sessions: `lru` (least recently used first), `deadline` (soonest first) or `created`.

    At most 1,000 at a time; `sessions` goes through all pages. A filter that is left out leaves no session out; `None`
    and empty text are refused, with `InvalidSetting`.
    """
    only = wanted_status(status)
    wanted = {
        "sort": sort, "status": None if only is None else only.value, "prefix": wanted_text("prefix", prefix),
        "owner": wanted_text("owner", owner), "limit": limit, "cursor": cursor,
    }  # fmt: skip
    query = {name: str(value) for name, value in wanted.items() if value is not None}
    return _read_call(SESSIONS, responses.page, query=query)


def messages(key: str) -> Call[Sequence[Message]]:
    """The newest messages of the live session under `key`, oldest first."""
    return _read_call(_path(key, "messages"), responses.messages, key=key)


def messages_as_of(key: str, at: int | Position) -> Call[Sequence[Message]]:
    """The newest messages of the session that lived under `key` then: the transcript of an ended session too."""
    return _read_call(_path(key, "messages"), responses.messages, key=key, query={"as_of": _point_in_time(at)})


def history(key: str, *, after_offset: int = -1, limit: int = 1_000) -> Call[Sequence[Entry]]:
    """Every record of a key with its verdict, in the order of the log; a page of `limit` after `after_offset`."""
    query = {"of": "records", "after": str(after_offset), "limit": str(limit)}
    return _read_call(_path(key, "history"), responses.records, key=key, query=query)


def session_spans(key: str, *, after_offset: int = -1, limit: int = 1_000) -> Call[Sequence[SessionSpan]]:
    """How each session of a key began and ended."""
    query = {"of": "lives", "after": str(after_offset), "limit": str(limit)}
    return _read_call(_path(key, "history"), responses.session_spans, key=key, query=query)


def ended_sessions(
    *,
    owner: str | Anything = ANY,
    prefix: str | Anything = ANY,
    since_ms: int | None = None,
    until_ms: int | None = None,
    reason: str | Anything = ANY,
    limit: int = 100,
    cursor: str | None = None,
) -> Call[SpanPage]:
    """A page of the sessions that have ended, the latest end first: of an owner, under a prefix, within a time.

    `since_ms` is included, `until_ms` is not. At most 1,000 at a time.
    """
    wanted = {
        "owner": wanted_text("owner", owner), "prefix": wanted_text("prefix", prefix), "since": since_ms,
        "until": until_ms, "reason": wanted_text("reason", reason), "limit": limit, "cursor": cursor,
    }  # fmt: skip
    query = {name: str(value) for name, value in wanted.items() if value is not None}
    return _read_call(ENDED, responses.ended_page, query=query)


def explain(key: str, *, at: int | Position | None = None, session_id: str | None = None) -> Call[Explanation]:
    """Why the session under `key` lives, and until when; or why it ended, and by which record.

    With `at`, a log time in milliseconds or a position, it is about the session of that time, as it was then, and says
    what became of it since; with `session_id`, about that very session.
    """
    query = {} if at is None else {"at": _point_in_time(at, "at")}
    if session_id is not None:
        query["session_id"] = str(session_id)
    return _read_call(_path(key, "explain"), responses.explanation, key=key, query=query)


def as_of(key: str, at: int | Position) -> Call[Session | None]:
    """The session that lived under `key` at a log time in milliseconds, or right after the record at a position."""
    return _read_call(
        _path(key), responses.session_or_none(key), key=key, query={"as_of": _point_in_time(at)}, none_errors=_GONE
    )


def statistics() -> Call[dict[str, Any]]:
    """Counters and gauges as plain JSON values."""
    return Call("GET", STATISTICS, responses.plain_object, is_read=True, is_repeatable=True)


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


def _read_call(path: str, read: Any, **options: Any) -> Call[Any]:
    return Call("GET", path, read, is_read=True, is_repeatable=True, waits_for_position=True, **options)


def _path(key: str, verb: str | None = None) -> str:
    check_key(key)
    return path_of(key, verb)


def _match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _point_in_time(at: int | Position, name: str = "as_of") -> str:
    if isinstance(at, tuple) and len(at) == 2:
        return position_text(Position(*at))
    if isinstance(at, int) and not isinstance(at, bool):
        return str(at)
    raise InvalidSetting(f"{name} = {shown(at)}: give a log time in milliseconds, or a Position")


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

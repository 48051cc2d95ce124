"""The reads of a client, by the names of the engine's methods. None of them touches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lastseen.api.paths import ENDED, SESSIONS, STATISTICS
from lastseen.api.positions import position_text
from lastseen.api.responses import Session
from lastseen.client import responses
from lastseen.client.call import Call, path_for
from lastseen.client.responses import RemotePage
from lastseen.engine.arguments import ANY, Anything, check_times, wanted_status, wanted_text
from lastseen.engine.errors import InvalidSetting, SessionEnded, SessionNotFound, shown
from lastseen.engine.log.port import Position
from lastseen.engine.session import Status
from lastseen.projections.bodies import Message
from lastseen.projections.explain import Explanation
from lastseen.projections.history import Entry
from lastseen.projections.listing import Sort
from lastseen.projections.session_spans import SessionSpan, SpanPage

_GONE = (SessionNotFound, SessionEnded)


def get(key: str) -> Call[Session | None]:
    """The session that lives under `key`, or `None`."""
    return _read_call(path_for(key), responses.session_or_none(key), key=key, none_errors=_GONE)


def list(  # noqa: A001 - the engine's name for it
    *,
    sort: Sort = "lru",
    status: Status | str | Anything = ANY,
    prefix: str | Anything = ANY,
    owner: str | Anything = ANY,
    since_ms: int | None = None,
    until_ms: int | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Call[RemotePage]:
    """A page of live sessions: `lru` (least recently used first), `deadline` (soonest first) or `created`.

    With `since_ms` those that were last used at that time or later, with `until_ms` before it. At most 1,000 at a time;
    `sessions` goes through all pages. A filter that is left out leaves no session out; `None` and empty text are
    refused, with `InvalidSetting`.
    """
    only = wanted_status(status)
    wanted = {
        "sort": sort, "status": None if only is None else only.value, "prefix": wanted_text("prefix", prefix),
        "owner": wanted_text("owner", owner), "since": since_ms, "until": until_ms, "limit": limit, "cursor": cursor,
    }  # fmt: skip
    check_times(since_ms, until_ms)
    query = {name: str(value) for name, value in wanted.items() if value is not None}
    return _read_call(SESSIONS, responses.page, query=query)


def messages(key: str) -> Call[Sequence[Message]]:
    """The newest messages of the live session under `key`, oldest first."""
    return _read_call(path_for(key, "messages"), responses.messages, key=key)


def messages_as_of(key: str, at: int | Position) -> Call[Sequence[Message]]:
    """The newest messages of the session that lived under `key` then: the transcript of an ended session too."""
    return _read_call(path_for(key, "messages"), responses.messages, key=key, query={"as_of": _point_in_time(at)})


def history(
    key: str, *, after_offset: int = -1, since_ms: int | None = None, until_ms: int | None = None, limit: int = 1_000
) -> Call[Sequence[Entry]]:
    """Every record of a key with its verdict, in the order of the log; a page of `limit` after `after_offset`.

    Or those of a time: `since_ms` is included, `until_ms` is not.
    """
    query = _history_page("records", after_offset, since_ms, until_ms, limit)
    return _read_call(path_for(key, "history"), responses.records, key=key, query=query)


def session_spans(
    key: str,
    *,
    after_offset: int = -1,
    since_ms: int | None = None,
    until_ms: int | None = None,
    owner: str | Anything = ANY,
    limit: int = 1_000,
) -> Call[Sequence[SessionSpan]]:
    """How each session of a key began and ended; a page of those that began after `after_offset`.

    Or those that lived at some time from `since_ms` on and before `until_ms`, or were an owner's.
    """
    query = _history_page("lives", after_offset, since_ms, until_ms, limit)
    wanted = wanted_text("owner", owner)
    if wanted is not None:
        query["owner"] = wanted
    return _read_call(path_for(key, "history"), responses.session_spans, key=key, query=query)


def _history_page(of: str, after_offset: int, since_ms: int | None, until_ms: int | None, limit: int) -> dict[str, str]:
    check_times(since_ms, until_ms)
    query = {"of": of, "after": after_offset, "since": since_ms, "until": until_ms, "limit": limit}
    return {name: str(value) for name, value in query.items() if value is not None}


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
    return _read_call(path_for(key, "explain"), responses.explanation, key=key, query=query)


def as_of(key: str, at: int | Position) -> Call[Session | None]:
    """The session that lived under `key` at a log time in milliseconds, or right after the record at a position."""
    return _read_call(
        path_for(key), responses.session_or_none(key), key=key, query={"as_of": _point_in_time(at)}, none_errors=_GONE
    )


def statistics() -> Call[dict[str, Any]]:
    """Counters and gauges as plain JSON values."""
    return Call("GET", STATISTICS, responses.plain_object, is_read=True, is_repeatable=True)


def read_session(key: str) -> Call[Session]:
    """The session that lives under `key`, after a command on it."""
    return _read_call(path_for(key), responses.session_of(key), key=key, none_errors=_GONE)


def _read_call(path: str, read: Any, **options: Any) -> Call[Any]:
    return Call("GET", path, read, is_read=True, is_repeatable=True, waits_for_position=True, **options)


def _point_in_time(at: int | Position, name: str = "as_of") -> str:
    if isinstance(at, tuple) and len(at) == 2:
        return position_text(Position(*at))
    if isinstance(at, int) and not isinstance(at, bool):
        return str(at)
    raise InvalidSetting(f"{name} = {shown(at)}: give a log time in milliseconds, or a Position")

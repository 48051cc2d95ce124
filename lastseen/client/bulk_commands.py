"""The calls of a client that end, suspend and resume many sessions at once, named ones or by a filter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import UNSET

from lastseen.api.paths import BULK
from lastseen.api.requests import MAX_BULK, BulkRequest, BulkSession
from lastseen.api.responses import BulkResults
from lastseen.client import responses
from lastseen.client.call import Call, body
from lastseen.engine.arguments import ANY, Anything, key_and_id, wanted_status, wanted_text
from lastseen.engine.errors import InvalidSetting, LastseenError
from lastseen.engine.session import Status


def close_many(
    keys: Iterable[str | tuple[str, str | None]], *, reason: str = "deleted"
) -> Call[Sequence[LastseenError | None]]:
    """End up to 10,000 sessions; for each `None`, or the error that refused it. A key may come with a session's id."""
    return _bulk("close", keys, reason)


def suspend_many(
    keys: Iterable[str | tuple[str, str | None]], *, reason: str | None = None
) -> Call[Sequence[LastseenError | None]]:
    """Suspend up to 10,000 sessions, as `close_many` ends them."""
    return _bulk("suspend", keys, reason)


def resume_many(
    keys: Iterable[str | tuple[str, str | None]], *, reason: str | None = None
) -> Call[Sequence[LastseenError | None]]:
    """Resume up to 10,000 sessions, as `close_many` ends them."""
    return _bulk("resume", keys, reason)


def close_where(
    *,
    owner: str | Anything = ANY,
    prefix: str | Anything = ANY,
    status: Status | str | Anything = ANY,
    reason: str = "deleted",
    dry_run: bool = False,
) -> Call[BulkResults]:
    """End the live sessions of an owner, or under a prefix; with `dry_run`, only say which. At most 10,000 at a time.

    `applied` says how many ended, and `complete` whether those are all. Raises `InvalidSetting` without an owner and a
    prefix, and where one of them is `None` or empty.
    """
    return _bulk_where("close", owner, prefix, status, reason, dry_run)


def suspend_where(
    *,
    owner: str | Anything = ANY,
    prefix: str | Anything = ANY,
    status: Status | str | Anything = ANY,
    reason: str | None = None,
    dry_run: bool = False,
) -> Call[BulkResults]:
    """Suspend the live sessions of an owner, or under a prefix, as `close_where` ends them."""
    return _bulk_where("suspend", owner, prefix, status, reason, dry_run)


def resume_where(
    *,
    owner: str | Anything = ANY,
    prefix: str | Anything = ANY,
    status: Status | str | Anything = ANY,
    reason: str | None = None,
    dry_run: bool = False,
) -> Call[BulkResults]:
    """Resume the suspended sessions of an owner, or under a prefix, as `close_where` ends them."""
    return _bulk_where("resume", owner, prefix, status, reason, dry_run)


def _bulk(
    command: str, keys: Iterable[str | tuple[str, str | None]], reason: str | None
) -> Call[Sequence[LastseenError | None]]:
    named = [key_and_id(each) for each in keys]
    if len(named) > MAX_BULK:
        raise InvalidSetting(f"{command}_many: {len(named)} sessions are too many; give at most {MAX_BULK} at a time")
    sessions = [BulkSession(key, UNSET if session_id is None else session_id) for key, session_id in named]
    return Call(
        "POST", f"{BULK}/{command}", responses.bulk_errors(len(named)),
        content=body(BulkRequest(sessions=sessions, reason=reason)),
    )  # fmt: skip


def _bulk_where(
    command: str,
    owner: str | Anything,
    prefix: str | Anything,
    status: Status | str | Anything,
    reason: str | None,
    dry_run: bool,
) -> Call[BulkResults]:
    filters: dict[str, Any] = {"owner": wanted_text("owner", owner), "prefix": wanted_text("prefix", prefix)}
    if filters["owner"] is None and filters["prefix"] is None:
        raise InvalidSetting("owner and prefix are missing: give at least one; without them, all sessions would fit")
    only = wanted_status(status)
    filters["status"] = None if only is None else only.value
    named = {name: value for name, value in filters.items() if value is not None}
    content = body(BulkRequest(**named, reason=reason, dry_run=dry_run))
    return Call("POST", f"{BULK}/{command}", responses.bulk_results, content=content, is_repeatable=dry_run)

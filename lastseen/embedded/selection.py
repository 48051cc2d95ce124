"""Bulk commands by filter: the live sessions of an owner, under a prefix, in a status, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from lastseen.embedded.engine import Engine
from lastseen.engine.arguments import ANY, Anything, wanted_status, wanted_text
from lastseen.engine.errors import InvalidSetting, LastseenError
from lastseen.engine.session import Status
from lastseen.projections.live_view import MAX_PAGE

BulkCommand = Literal["close", "suspend", "resume"]
Named = tuple[str, str | None]
"""A session's key, and its id where that very session is meant."""


class Filter(NamedTuple):
    """Which live sessions are meant: all that fit each part that is given."""

    owner: str | Anything = ANY
    prefix: str | Anything = ANY
    status: Status | str | Anything = ANY

    def check(self) -> None:
        """Raise `InvalidSetting` for a filter without an owner and without a prefix: it would mean all sessions. An
        owner or a prefix that is `None` or empty is refused beside the other, too: it would mean more than was meant.
        """
        wanted_status(self.status)
        owner, prefix = wanted_text("owner", self.owner), wanted_text("prefix", self.prefix)
        if owner is None and prefix is None:
            raise InvalidSetting("owner and prefix are missing: give at least one, or all sessions would fit")


def select(engine: Engine, wanted: Filter, limit: int) -> tuple[list[Named], bool]:
    """The sessions that fit, oldest first and at most `limit`; and whether those are all. Raises `InvalidSetting`."""
    wanted.check()
    found: list[Named] = []
    cursor: str | None = None
    while True:
        page = engine.list(
            sort="created", owner=wanted.owner, prefix=wanted.prefix, status=wanted.status,
            limit=min(limit - len(found), MAX_PAGE), cursor=cursor,
        )  # fmt: skip
        found += [(session.key, session.session_id) for session in page.sessions]
        cursor = page.cursor
        if cursor is None or len(found) >= limit:
            return found, cursor is None


def execute(
    engine: Engine, command: BulkCommand, sessions: Sequence[Named], reason: str | None, *, dry_run: bool
) -> list[LastseenError | None]:
    """End, suspend or resume these sessions; for each the error that refused it, or `None`.

    With `dry_run` nothing is written. Raises `LogError`, and `InvalidEvent` for a reason that no record can carry.
    """
    if dry_run or not sessions:
        return [None] * len(sessions)
    commands: dict[BulkCommand, Callable[..., list[LastseenError | None]]] = {
        "close": engine.close_many, "suspend": engine.suspend_many, "resume": engine.resume_many,
    }  # fmt: skip
    options = {} if reason is None else {"reason": reason}
    return commands[command](sessions, **options)

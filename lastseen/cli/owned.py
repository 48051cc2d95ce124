"""`lastseen history --owner`: the sessions of an owner, live and ended, whatever their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastseen.engine.arguments import ANY
from lastseen.engine.errors import InvalidSetting, shown

if TYPE_CHECKING:
    from lastseen.embedded.engine import Engine
    from lastseen.projections.session_spans import SessionSpan

_LIVE, _ENDED = "live:", "ended:"


def spans_of_owner(
    engine: Engine, owner: str, since_ms: int | None, until_ms: int | None, limit: int, cursor: str | None
) -> tuple[list[SessionSpan], str | None]:
    """A page of an owner's sessions, those that live first, and the cursor of the next.

    Of those that lived at some time from `since_ms` on and before `until_ms`. Raises `InvalidSetting`.
    """
    spans: list[SessionSpan] = []
    if cursor is None or cursor.startswith(_LIVE):
        page = engine.list(
            owner=owner, sort="created", limit=limit, cursor=None if cursor is None else cursor.removeprefix(_LIVE)
        )
        found = [engine.last_session_span(session.key) for session in page.sessions]
        spans = [span for span in found if span is not None and span.lived_within(since_ms, until_ms)]
        if page.cursor is not None:
            return spans, _LIVE + page.cursor
        if len(page.sessions) == limit:
            return spans, _ENDED
        cursor, limit = _ENDED, limit - len(page.sessions)
    if not cursor.startswith(_ENDED):
        raise InvalidSetting(f"cursor = {shown(cursor)}: give the cursor of an earlier page")
    ended = engine.ended_sessions(
        owner=owner, since_ms=since_ms, limit=limit, cursor=cursor.removeprefix(_ENDED) or None, prefix=ANY
    )
    spans += [span for span in ended.spans if span.lived_within(since_ms, until_ms)]
    return spans, None if ended.cursor is None else _ENDED + ended.cursor

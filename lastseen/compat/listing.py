"""Every live session of an engine, page by page."""

from __future__ import annotations

from collections.abc import Iterator

from lastseen.embedded.engine import Engine
from lastseen.engine.session import SessionView
from lastseen.projections.listing import Sort

PAGE = 10_000


def every(engine: Engine, sort: Sort) -> Iterator[SessionView]:
    """Every live session in the order of `sort`, untouched. Costs a look at each, once a page."""
    cursor = None
    while True:
        page = engine.list(sort=sort, limit=PAGE, cursor=cursor)
        yield from page.sessions
        cursor = page.cursor
        if cursor is None:
            return

"""`lastseen ls --status ended`: which sessions have ended, of whom, when and why."""

from __future__ import annotations

from typing import Any

from lastseen.cli.compact import Column, is_compact, put_compact, when_text
from lastseen.cli.options import OutputFormat, or_any
from lastseen.cli.printing import put_listing, say_failed, say_more, time_text
from lastseen.cli.progress import progress_bar
from lastseen.cli.times import time_option

_COLUMNS = {
    "key": "key", "owner": "owner", "began": "began", "last_active": "last active", "ended": "ended",
    "reason": "reason", "ended_by": "ended by",
}  # fmt: skip
_COMPACT = {
    "key": Column("key", is_cut=True), "owner": Column("owner", is_cut=True, rank=2), "ended": Column("ended"),
    "reason": Column("reason", is_cut=True), "ended_by": Column("ended by", is_cut=True, rank=1),
}  # fmt: skip


def ended_by(span: Any) -> str | None:
    """What ended a session, for people: the limit with its value, else the service that wrote the record."""
    from lastseen.projections.explain import limit_text

    found: str | None = limit_text(span.reason or "", span.limit_ms) or span.ended_by
    return found


def list_ended(
    log: str, *, owner: str | None, prefix: str | None, since: str | None, until: str | None, reason: str | None,
    limit: int, cursor: str | None, local: bool, wide: bool, output: OutputFormat,
) -> None:  # fmt: skip
    """List ended sessions, the latest end first."""
    from lastseen.embedded.offline import reading

    since_ms, until_ms = time_option("since", since, local), time_option("until", until, local)
    with progress_bar("reading", "records") as progress, reading(log, progress=progress) as engine:
        page = engine.ended_sessions(
            owner=or_any(owner),
            prefix=or_any(prefix),
            since_ms=since_ms,
            until_ms=until_ms,
            reason=or_any(reason),
            limit=limit,
            cursor=cursor,
        )
        now_ms = None if engine.is_importing else engine.now_ms()
        failed = engine.partitions().failed
    if output is OutputFormat.TABLE and is_compact(wide):
        ended = [{"ended": when_text(span.ended_at_ms, now_ms, local)} for span in page.spans]
        put_compact([_shown(span, local) | each for span, each in zip(page.spans, ended, strict=True)], _COMPACT)
        say_failed(failed)
        say_more("sessions", page.cursor)
        return
    rows = [_shown(span, local) if output is OutputFormat.TABLE else span.as_dict() for span in page.spans]
    put_listing("sessions", rows, output, _COLUMNS, page.cursor, is_wide=wide, failed=failed)


def _shown(span: Any, local: bool) -> dict[str, Any]:
    return {
        "key": span.key, "owner": span.owner, "began": time_text(span.began_at_ms, local),
        "last_active": time_text(span.last_active_at_ms, local), "ended": time_text(span.ended_at_ms, local),
        "reason": span.reason, "ended_by": ended_by(span),
    }  # fmt: skip

"""`lastseen ls` and `lastseen show`: who is live."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lastseen.cli.compact import Column, Wide, is_compact, put_compact, when_text
from lastseen.cli.ended import list_ended
from lastseen.cli.options import DEFAULT_LOG, Key, LogUrl, Output, OutputFormat, completed, or_any
from lastseen.cli.printing import put_json, put_listing, put_rows, put_values, say_failed, say_more, time_text
from lastseen.cli.progress import progress_bar
from lastseen.cli.times import Local, Since, Until, time_option

_COLUMNS = {
    "key": "key", "status": "status", "owner": "owner", "version": "version", "created": "created",
    "last_active": "last active", "deadline": "deadline", "deadline_reason": "limit",
}  # fmt: skip
_COMPACT = {
    "key": Column("key", is_cut=True), "status": Column("status"), "owner": Column("owner", is_cut=True, rank=2),
    "last_active": Column("last active"), "deadline": Column("deadline", rank=1),
    "deadline_reason": Column("limit", rank=3),
}  # fmt: skip


def ls(
    log: LogUrl = DEFAULT_LOG,
    sort: Annotated[
        str,
        typer.Option(
            metavar="ORDER",
            help="lru (least recently used first), deadline (soonest) or created.",
            autocompletion=completed("lru", "deadline", "created"),
        ),
    ] = "lru",
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS",
            help="Only active, only suspended, or ended sessions.",
            autocompletion=completed("active", "suspended", "ended"),
        ),
    ] = None,
    prefix: Annotated[str | None, typer.Option(metavar="TEXT", help="Only keys with this prefix.")] = None,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Only sessions of this owner.")] = None,
    since: Since = None,
    until: Until = None,
    reason: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ended sessions that ended for this reason.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="The largest number to list, up to 10,000.")] = 100,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="Continue from an earlier page.")] = None,
    local: Local = False,
    wide: Wide = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List live sessions, or with --status ended those that have ended."""
    from lastseen.embedded.offline import reading
    from lastseen.engine.errors import InvalidSetting

    if status == "ended":
        list_ended(
            log, owner=owner, prefix=prefix, since=since, until=until, reason=reason, limit=limit, cursor=cursor,
            local=local, wide=wide, output=output,
        )  # fmt: skip
        return
    if reason is not None:
        raise InvalidSetting("reason chooses among ended sessions: add --status ended")
    since_ms, until_ms = time_option("since", since, local), time_option("until", until, local)

    with progress_bar("reading", "records") as progress, reading(log, progress=progress) as engine:
        page = engine.list(
            sort=sort,  # type: ignore[arg-type]
            status=or_any(status),
            prefix=or_any(prefix),
            owner=or_any(owner),
            since_ms=since_ms,
            until_ms=until_ms,
            limit=limit,
            cursor=cursor,
        )
        sessions = [session.as_dict() for session in page.sessions]
        # The sessions of a history that is being imported are long past: their times are shown as they are.
        now_ms = None if engine.is_importing else engine.now_ms()
        failed = engine.partitions().failed
    if output is OutputFormat.TABLE and is_compact(wide):
        put_compact([each | _relative_times(each, now_ms, local) for each in sessions], _COMPACT)
        say_failed(failed)
        say_more("sessions", page.cursor)
        return
    rows = [_with_times(each, local) for each in sessions] if output is OutputFormat.TABLE else sessions
    put_listing("sessions", rows, output, _COLUMNS, page.cursor, is_wide=wide, failed=failed)


def _relative_times(session: dict[str, Any], now_ms: int | None, local: bool) -> dict[str, str | None]:
    return {
        "last_active": when_text(session["last_active_at_ms"], now_ms, local),
        "deadline": when_text(session["deadline_ms"], now_ms, local),
    }


def _with_times(session: dict[str, Any], local: bool = False) -> dict[str, Any]:
    times = {"created": "created_at_ms", "last_active": "last_active_at_ms", "deadline": "deadline_ms"}
    return session | {name: time_text(session[field], local) for name, field in times.items()}


def show(
    key: Key,
    log: LogUrl = DEFAULT_LOG,
    messages: Annotated[int, typer.Option(metavar="N", min=0, help="How many of the newest messages.")] = 10,
    local: Local = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a session: state, limits, attributes and newest messages."""
    from lastseen.embedded.offline import reading
    from lastseen.engine.errors import SessionNotFound

    with progress_bar("reading", "records") as progress, reading(log, progress=progress) as engine:
        session = engine.get(key)
        if session is None:
            raise SessionNotFound(engine.explain(key).sentence)
        previous = session.previous
        shown = session.as_dict() | {"previous": None if previous is None else previous._asdict()}
        newest = [
            {
                "offset": message.offset,
                "event_id": message.event_id,
                "at_ms": message.at_ms,
                "message": message.value,
            }
            for message in list(engine.messages(key))[-messages:] if messages
        ]  # fmt: skip
    if output is not OutputFormat.TABLE:
        put_json(shown | {"messages": newest})
        return
    attributes = shown.pop("attributes")
    del shown["previous"]
    people = _with_times(shown, local)
    if previous is not None:
        people["previous"] = (
            f"{previous.session_id}, ended {time_text(previous.ended_at_ms, local)} ({previous.reason})"
        )
    for name in ("created_at_ms", "last_active_at_ms", "deadline_ms"):
        del people[name]
    put_values({}, output, people | {f"attribute {name}": value for name, value in attributes.items()})
    if newest:
        for row in newest:
            row["at"] = time_text(row["at_ms"], local)
        put_rows(newest, output, {"offset": "offset", "at": "at", "message": "message"}, "Newest messages")

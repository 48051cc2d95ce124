"""`lastseen history` and `lastseen explain`: what happened under a key, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lastseen.cli.ended import ended_by
from lastseen.cli.options import DEFAULT_LOG, Key, LogUrl, Output, OutputFormat, or_any
from lastseen.cli.owned import spans_of_owner
from lastseen.cli.printing import ESCAPED_CONTROLS, put_json, put_listing, time_text
from lastseen.cli.progress import progress_bar
from lastseen.cli.times import Local, SinceThen, UntilThen, point_option, time_option, zone

if TYPE_CHECKING:
    from lastseen.embedded.engine import Engine
    from lastseen.engine.arguments import Anything
    from lastseen.projections.session_spans import SessionSpan

_ENTRIES = {
    "offset": "offset", "at": "at", "name": "event", "verdict": "verdict", "reason": "reason",
    "session_id": "session", "source": "source",
}  # fmt: skip
_LIVES = {
    "session_id": "session", "began": "began", "ended": "ended", "reason": "reason", "began_by": "begun by",
    "ended_by": "ended by",
}  # fmt: skip


def history(
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="The session key, such as irc:#ubuntu:ana.")
    ] = None,
    log: LogUrl = DEFAULT_LOG,
    lives: Annotated[
        bool, typer.Option("--lives", help="How each session began and ended, instead of every record.")
    ] = False,
    owner: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The sessions of this owner, as with --lives: under KEY, or of all keys."),
    ] = None,
    since: SinceThen = None,
    until: UntilThen = None,
    after: Annotated[
        str | None,
        typer.Option("--after", "--cursor", metavar="OFFSET", help="Continue after this offset; `cursor` of -o json."),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="The largest number to list.")] = 1_000,
    local: Local = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List a key's records with verdicts, or an owner's sessions."""
    from lastseen.embedded.offline import reading
    from lastseen.engine.errors import InvalidSetting

    since_ms, until_ms = time_option("since", since, local), time_option("until", until, local)
    lives = lives or owner is not None
    columns = (_LIVES if key is not None else {"key": "key"} | _LIVES) if lives else _ENTRIES
    cursor: str | int | None
    with progress_bar("reading", "records") as progress, reading(log, progress=progress) as engine:
        if key is not None:
            rows, cursor = _of_key(engine, key, lives, or_any(owner), since_ms, until_ms, limit, after)
        elif owner is None:
            raise InvalidSetting("history: give a KEY, or --owner NAME for the sessions of all keys")
        else:
            spans, cursor = spans_of_owner(engine, owner, since_ms, until_ms, limit, after)
            rows = [_life(span) for span in spans]
    if output is OutputFormat.TABLE:
        for row in rows:
            row |= {
                short: time_text(row[name], local)
                for short, name in (("at", "at_ms"), ("began", "began_at_ms"), ("ended", "ended_at_ms"))
                if name in row
            }
            if lives:
                row["ended_by"] = row.pop("ended by")
    for row in rows:
        row.pop("ended by", None)
    put_listing("lives" if lives else "records", rows, output, columns, cursor)


def _of_key(
    engine: Engine, key: str, lives: bool, owner: str | Anything, since_ms: int | None, until_ms: int | None,
    limit: int, after: str | None,
) -> tuple[list[dict[str, Any]], int | None]:  # fmt: skip
    """A page of a key's records, or of its sessions, and the offset after which the next begins."""
    from lastseen.engine.errors import InvalidSetting, SessionNotFound, shown

    try:
        after_offset = -1 if after is None else int(after)
    except ValueError:
        raise InvalidSetting(f"after = {shown(after)}: give an offset, the cursor of an earlier page") from None
    explanation = engine.explain(key)
    if explanation.offset is None:
        raise SessionNotFound(explanation.sentence)
    # One more than asked for tells whether there is another page.
    if lives:
        spans = engine.session_spans(
            key, after_offset=after_offset, since_ms=since_ms, until_ms=until_ms, owner=owner, limit=limit + 1
        )
        rows, name = [_life(span) for span in spans], "began_offset"
    else:
        entries = engine.history(key, after_offset=after_offset, since_ms=since_ms, until_ms=until_ms, limit=limit + 1)
        rows, name = [entry._asdict() | {"verdict": entry.verdict.label} for entry in entries], "offset"
    return rows[:limit], rows[limit - 1][name] if len(rows) > limit else None


def _life(span: SessionSpan) -> dict[str, Any]:
    return span.as_dict() | {"ended by": ended_by(span)}


def explain(
    key: Key,
    log: LogUrl = DEFAULT_LOG,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Explain the session of this time, and what became of it since: 2026-01-31T12:00:00Z,"
            " '2026-01-31 12:00', milliseconds, a time ago such as 2h, or a record as partition:offset.",
        ),
    ] = None,
    session_id: Annotated[str | None, typer.Option(metavar="ID", help="Explain the session with this id.")] = None,
    local: Local = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Explain until when a session lives, or why it ended. The explanation names the limit and the record."""
    from dataclasses import asdict

    from lastseen.embedded.offline import reading
    from lastseen.engine.errors import SessionNotFound

    with progress_bar("reading", "records") as progress, reading(log, progress=progress) as engine:
        explanation = engine.explain(key, at=point_option("at", at, local), session_id=session_id, tz=zone(local))
    if explanation.offset is None:
        raise SessionNotFound(explanation.sentence)
    if output is OutputFormat.TABLE:
        typer.echo(explanation.sentence.translate(ESCAPED_CONTROLS))
    else:
        put_json(asdict(explanation))

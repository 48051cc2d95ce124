"""`lastseen history` and `lastseen explain`: what happened under a key, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from lastseen.cli.ended import ended_by
from lastseen.cli.options import DEFAULT_LOG, Key, LogUrl, Output, OutputFormat
from lastseen.cli.printing import ESCAPED_CONTROLS, put_json, put_listing, time_text
from lastseen.cli.progress import progress_bar
from lastseen.cli.times import Local, point_option, zone

_ENTRIES = {
    "offset": "offset", "at": "at", "name": "event", "verdict": "verdict", "reason": "reason",
    "session_id": "session", "source": "source",
}  # fmt: skip
_LIVES = {
    "session_id": "session", "began": "began", "ended": "ended", "reason": "reason", "began_by": "begun by",
    "ended_by": "ended by",
}  # fmt: skip


def history(
    key: Key,
    log: LogUrl = DEFAULT_LOG,
    lives: Annotated[
        bool, typer.Option("--lives", help="How each session began and ended, instead of every record.")
    ] = False,
    after: Annotated[
        int,
        typer.Option("--after", "--cursor", metavar="OFFSET", help="Continue after this offset; `cursor` of -o json."),
    ] = -1,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="The largest number to list.")] = 1_000,
    local: Local = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List every record of a key with its verdict."""
    from lastseen.embedded.offline import reading
    from lastseen.engine.errors import SessionNotFound

    with progress_bar("reading", "records") as progress, reading(log, progress=progress) as engine:
        if engine.explain(key).offset is None:
            raise SessionNotFound(engine.explain(key).sentence)
        if lives:
            spans = engine.session_spans(key, after_offset=after, limit=limit + 1)
            rows = [
                span.as_dict() | ({"ended_by": ended_by(span)} if output is OutputFormat.TABLE else {})
                for span in spans
            ]
        else:
            rows = [
                entry._asdict() | {"verdict": entry.verdict.label}
                for entry in engine.history(key, after_offset=after, limit=limit + 1)
            ]
    # One more than asked for tells whether there is another page.
    cursor = rows[limit - 1]["began_offset" if lives else "offset"] if len(rows) > limit else None
    del rows[limit:]
    if output is OutputFormat.TABLE:
        for row in rows:
            row |= {
                short: time_text(row[name], local)
                for short, name in (("at", "at_ms"), ("began", "began_at_ms"), ("ended", "ended_at_ms"))
                if name in row
            }
    put_listing("lives" if lives else "records", rows, output, _LIVES if lives else _ENTRIES, cursor)


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

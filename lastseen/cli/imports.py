"""`lastseen import`: sessions of other systems, imported into a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lastseen.cli.options import DEFAULT_LOG, LogUrl, Output, OutputFormat
from lastseen.cli.printing import ESCAPED_CONTROLS, put_values, say
from lastseen.cli.progress import progress_bar

if TYPE_CHECKING:
    from lastseen.compat.gateway.importing import Imported

MAX_SHOWN_SKIPPED = 20
"""Skipped entries that are listed, and corrected fields; JSON has all."""
app = typer.Typer(help="Import sessions from another system.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def import_() -> None:
    """Import sessions from another system."""


@app.command()
def gateway(
    sessions: Annotated[Path, typer.Argument(metavar="FILE", help="The sessions.json of a gateway.")],
    log: LogUrl = DEFAULT_LOG,
    timezone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="The gateway's time zone, such as Europe/Berlin (it wrote local time). Default: this machine's.",
        ),
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A platform that a plugin added. May be given several times."),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Import a gateway's session store into an empty log.

    Sessions keep their own times. Entries that are malformed, of unknown platforms, or from the future are skipped and
    listed; the others are imported. A malformed optional field is dropped or corrected, and listed. Run it again to
    append what is missing: nothing is appended twice. Transcripts are not moved.
    """
    from lastseen.compat.gateway.importing import import_sessions
    from lastseen.compat.gateway.platform import Platform

    for name in platform or ():
        Platform.register(name)
    with progress_bar("reading", "entries") as progress:
        imported = import_sessions(sessions, log, timezone=timezone, progress=progress)
    _say_some([f"skipped {key}: {why}" for key, why in imported.skipped], "were skipped")
    _say_some([f"corrected {key}: {name}: {why}" for key, name, why in imported.corrections], "fields were corrected")
    put_values(imported.as_dict(), output, _for_people(imported), f"Import of {sessions.name}")


def _say_some(lines: list[str], what: str) -> None:
    for line in lines[:MAX_SHOWN_SKIPPED]:
        say(line.translate(ESCAPED_CONTROLS))
    if len(lines) > MAX_SHOWN_SKIPPED:
        say(f"and {len(lines) - MAX_SHOWN_SKIPPED:,} more {what}; -o json names all")


def _for_people(imported: Imported) -> dict[str, Any]:
    return {
        "entries": f"{imported.entries:,}",
        "sessions imported": f"{imported.imported:,}",
        "entries skipped": f"{len(imported.skipped):,}",
        "fields corrected": f"{len(imported.corrections):,}",
        "transcripts beside the file": f"{imported.transcripts:,}",
        "records of the import": f"{imported.records:,}",
        "records appended now": f"{imported.appended:,}",
        **({"records appended since": f"{imported.later:,}"} if imported.later else {}),
        "seconds": f"{imported.seconds:,.1f}",
    }

"""`lastseen export`, and `lastseen import` of what it has made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lastseen.cli.exit_codes import FINDINGS
from lastseen.cli.options import DEFAULT_LOG, LogUrl, Output, OutputFormat
from lastseen.cli.printing import ESCAPED_CONTROLS, put_values, say
from lastseen.cli.progress import progress_bar

MAX_SHOWN_SKIPPED = 20
"""Skipped rows that are listed; JSON has all."""
File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="Ends in .jsonl (JSON Lines), .csv, or .parquet (a folder of Parquet files)."),
]
ImportFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="Ends in .jsonl (JSON Lines), or .parquet (a folder of Parquet files).")
]
app = typer.Typer(
    help="Write sessions, past and live, or the whole history to files.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def export() -> None:
    """Write sessions, past and live, or the whole history to files."""


@app.command("history")
def export_history(file: File, log: LogUrl = DEFAULT_LOG, output: Output = OutputFormat.TABLE) -> None:
    """Write every record of a log, its verdict and what it ended.

    The log may be in use. Run it again after an interruption to continue.
    """
    from lastseen.exchange import history

    with progress_bar("exporting", "records") as progress:
        exported = history.export_history(log, file, progress)
    figures = exported.as_dict()
    put_values(figures, output, {name.replace("_", " "): f"{count:,}" for name, count in figures.items()}, "Export")
    if exported.later:
        say(f"the log has accepted {exported.later:,} records since the export began: the export does not have them")


@app.command("sessions")
def export_sessions(file: File, log: LogUrl = DEFAULT_LOG, output: Output = OutputFormat.TABLE) -> None:
    """Write the live sessions with their attributes and messages.

    The log may be in use. After an interruption it continues if the log has not changed, and starts over otherwise.
    """
    from lastseen.exchange import sessions

    with progress_bar("exporting", "sessions") as progress:
        figures = sessions.export_sessions(log, file, progress).as_dict()
    put_values(figures, output, {name.replace("_", " "): f"{count:,}" for name, count in figures.items()}, "Export")


@app.command("lives")
def export_lives(file: File, log: LogUrl = DEFAULT_LOG, output: Output = OutputFormat.TABLE) -> None:
    """Write a row for every session that ever began.

    It has owner, beginning, end, reason, duration, and numbers of events and messages. For analysis: it cannot be
    imported. The log may be in use. Run it again after an interruption to continue.
    """
    from lastseen.exchange import lives

    with progress_bar("exporting", "records") as progress:
        figures = lives.export_lives(log, file, progress).as_dict()
    put_values(figures, output, {name.replace("_", " "): f"{count:,}" for name, count in figures.items()}, "Export")


def import_history(file: ImportFile, log: LogUrl = DEFAULT_LOG, output: Output = OutputFormat.TABLE) -> None:
    """Import an exported history into an empty log, and verify it.

    Records keep their times. The result equals that of `lastseen log copy`, in any number of partitions. Run it again
    after an interruption to continue.
    """
    from lastseen.exchange import history

    with progress_bar("importing and verifying", "records") as progress:
        copied = history.import_history(file, log, progress=progress)
    figures = copied.as_dict()
    shown = {
        "records of the export": f"{copied.figures.records:,}",
        "records in the log": f"{copied.written:,}",
        "found there already": f"{copied.found:,}",
        "sessions live": f"{copied.live:,}",
        "differences": copied.differing,
    }
    put_values(figures, output, shown, f"Import of {file.name}")
    if copied.differing:
        say(
            f"lastseen: it differs from the export in {copied.differing:,} places; do not use it until you know"
            " the cause"
        )
        raise typer.Exit(FINDINGS)


def import_sessions(file: ImportFile, log: LogUrl = DEFAULT_LOG, output: Output = OutputFormat.TABLE) -> None:
    """Import exported sessions into an empty log, with their times.

    Rows that are not valid sessions are skipped and listed. Run it again to append what is missing: nothing is
    appended twice. The import then folds the log: if a session is missing, the exit code is 1.
    """
    from lastseen.exchange import sessions

    with progress_bar("importing", "sessions") as progress:
        imported = sessions.import_sessions(file, log, progress=progress)
    for key, why in imported.skipped[:MAX_SHOWN_SKIPPED]:
        say(f"skipped {key.translate(ESCAPED_CONTROLS)}: {why.translate(ESCAPED_CONTROLS)}")
    if len(imported.skipped) > MAX_SHOWN_SKIPPED:
        say(f"and {len(imported.skipped) - MAX_SHOWN_SKIPPED:,} more were skipped; -o json names all")
    figures = imported.as_dict()
    shown = {
        "sessions imported": f"{imported.sessions:,}",
        "rows skipped": f"{len(imported.skipped):,}",
        "records of the import": f"{imported.records:,}",
        "records appended now": f"{figures['records_appended']:,}",
    }
    put_values(figures, output, shown, f"Import of {file.name}")
    if imported.lost:
        key, why = imported.lost[0]
        say(
            f"lastseen: {len(imported.lost):,} sessions of the file are not in the log, the first of them"
            f" {key.translate(ESCAPED_CONTROLS)}: {why}. Check the clocks of the log and of this machine, and"
            " import into a new log; -o json names all"
        )
        raise typer.Exit(FINDINGS)

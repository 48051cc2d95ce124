"""`lastseen log copy`: whole logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lastseen.cli.exit_codes import FINDINGS
from lastseen.cli.options import Output, OutputFormat
from lastseen.cli.printing import put_rows, put_values, say
from lastseen.cli.progress import progress_bar

if TYPE_CHECKING:
    from lastseen.copying.copy import Copied

app = typer.Typer(help="Copy whole logs.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def log() -> None:
    """Copy whole logs."""


@app.command()
def copy(
    source: Annotated[
        str,
        typer.Argument(metavar="FROM", help="The log to copy: sqlite:///path/to/file.db or kafka://host:9092/topic."),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TO",
            help="The target: an empty log, or one in which this copy was interrupted. A new file gets as many"
            " partitions as FROM has, or ?partitions=N; memory:// is a dry run.",
        ),
    ],
    leave_open: Annotated[
        bool,
        typer.Option(
            "--leave-open", help="Leave the copy open for import: reads show it as of the end of the history."
        ),
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Copy a log into another with its times, and verify the copy.

    FROM may be in use; records that are written after the start are not copied, so stop its writers first for a
    complete copy. Each event keeps its id, its source and its data; its time becomes its log time, and the producer's
    time is kept as senttime. Then the copy is read back: live and ended sessions must be the same. Run it again after
    an interruption to continue.
    """
    from lastseen.copying.copy import copy_between

    with progress_bar("copying and verifying", "records") as progress:
        copied = copy_between(source, target, leave_open=leave_open, progress=progress)
    put_values(copied.as_dict(), output, _for_people(copied), "Copy")
    if copied.later:
        say(f"the source has accepted {copied.later:,} records since the copy began: the copy does not have them")
    if not copied.differing:
        return
    if output is OutputFormat.TABLE:
        rows = [each._asdict() for each in copied.differences]
        put_rows(rows, output, {"what": "what", "name": "name", "source": "source", "copy": "copy"}, "Differences")
    say(
        f"lastseen: the copy differs from its source in {copied.differing:,} places; do not use it until you"
        " know the cause"
    )
    raise typer.Exit(FINDINGS)


def _for_people(copied: Copied) -> dict[str, Any]:
    from lastseen.copying.copy_plan import LEFT_OUT

    figures = copied.figures
    return {
        "records of the source": f"{figures.records:,}",
        **{f"  copied: {verdict}": f"{count:,}" for verdict, count in sorted(figures.copied.items())},
        **{
            f"  left out: {reason} ({LEFT_OUT[reason]})": f"{count:,}"
            for reason, count in sorted(figures.left_out.items())
        },
        "with another time": f"{figures.retimed:,}",
        **({"from a partition not the key's": f"{figures.moved:,}"} if figures.moved else {}),
        **({"shortened": f"{figures.shortened:,}"} if figures.shortened else {}),
        **{f"void for another reason: {change}": f"{count:,}" for change, count in figures.judged_otherwise.items()},
        **{f"applied, and void in the copy: {verdict}": f"{count:,}" for verdict, count in figures.lost.items()},
        **({"expiries in place of records left out": f"{figures.stand_ins:,}"} if figures.stand_ins else {}),
        "partitions": f"{copied.partitions[0]} → {copied.partitions[1]}",
        "records in the copy": f"{copied.written:,}",
        "found there already": f"{copied.found:,}",
        "sessions live": f"{copied.live:,}",
        "open for import": copied.is_open,
        "differences": copied.differing,
        "records a second": f"{copied.as_dict()['records_per_second']:,}",
    }

"""`lastseen producers check`: whose records are wrong by themselves, and how to fix what writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lastseen.cli.exit_codes import FINDINGS
from lastseen.cli.options import Output, OutputFormat
from lastseen.cli.printing import put_json, put_rows, say

if TYPE_CHECKING:
    from lastseen.doctor.producers import ProducerReport

app = typer.Typer(help="See who writes to a log, and how well.", no_args_is_help=True, rich_markup_mode=None)
_COLUMNS = {
    "source": "source", "records": "records", "fault": "fault", "faulty": "of them", "at": "first", "says": "that one",
    "fix": "how to fix it",
}  # fmt: skip


@app.callback()
def producers() -> None:
    """See who writes to a log, and how well."""


@app.command()
def check(
    log: Annotated[
        str,
        typer.Option(
            "--log", envvar="LASTSEEN_LOG", metavar="URL",
            help="The log: kafka://host:9092/topic, sqlite:///relative.db or sqlite:////absolute.db.",
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DURATION", help="Only records of so long ago by the log's clock: 10m, 2h."),
    ] = None,
    records: Annotated[
        int,
        typer.Option("--records", metavar="N", min=1, help="Of each partition at most so many, the newest."),
    ] = 10_000,
    output: Output = OutputFormat.TABLE,
) -> None:  # fmt: skip
    """Say for each source what is wrong with its records.

    It reads the newest records of a log and says how to fix what writes them. A record is judged by itself: its form,
    type, partition, clock, and whether it belongs to a transaction. Whether its session lived is another matter: see
    the metrics and the history. Nothing is written: it may be used beside running services. The exit code is 1 where a
    record is wrong.
    """
    from lastseen.doctor.examine import opened_log
    from lastseen.doctor.producers import newest
    from lastseen.doctor.producers import producers as examine
    from lastseen.embedded.settings import duration_ms
    from lastseen.engine.clock import SystemClock

    since_ms = None if since is None else SystemClock().now_ms() - duration_ms("--since", since)
    with opened_log(log) as opened:
        read_range = newest(opened, records, since_ms)
        reports = examine(opened, read_range)
    faulty = sum(each.faulty for each in reports)
    if output is OutputFormat.JSON:
        sources = [_json(each) for each in reports]
        put_json({"ok": not faulty, "records": read_range.records, "faulty": faulty, "sources": sources})
    else:
        put_rows((row for each in reports for row in _rows(each)), output, _COLUMNS)
    if faulty:
        say(f"lastseen: {faulty:,} of {read_range.records:,} records are void by themselves; see above how to fix that")
        raise typer.Exit(FINDINGS)
    say(f"lastseen: {read_range.records:,} records of {len(reports):,} sources are as they must be")


def _json(report: ProducerReport) -> dict[str, Any]:
    faults = [each._asdict() | {"fix": each.fix} for each in report.faults]
    return {"source": report.source, "records": report.records, "faulty": report.faulty, "faults": faults}


def _rows(report: ProducerReport) -> Iterator[dict[str, Any]]:
    """A row for each fault of a source; one for a source without."""
    if not report.faults:
        yield {"source": report.source, "records": report.records}
    for each in report.faults:
        yield {
            "source": report.source, "records": report.records, "fault": each.fault, "faulty": each.records,
            "at": f"{each.partition}:{each.offset}", "says": each.says, "fix": each.fix,
        }  # fmt: skip

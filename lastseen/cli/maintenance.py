"""`lastseen stats` and `lastseen prune`."""

from __future__ import annotations

from typing import Annotated

import typer

from lastseen.cli.options import DEFAULT_LOG, LogUrl, Output, OutputFormat
from lastseen.cli.printing import put_json, put_rows, put_values, say, time_text
from lastseen.cli.progress import progress_bar

_DUE = {"key": "key", "reason": "reason", "deadline": "deadline", "session_id": "session", "version": "version"}


def stats(log: LogUrl = DEFAULT_LOG, output: Output = OutputFormat.TABLE) -> None:
    """Count live, created and ended sessions, and void records. Ended sessions are counted by reason."""
    from lastseen.embedded.offline import reading

    with progress_bar("reading", "records") as progress, reading(log, progress=progress) as engine:
        report = engine.statistics()
        report["checkpoints"] = {
            str(partition): {"offset": offset, "digest": digest}
            for partition, (offset, digest) in engine.checkpoints().items()
        }
    # They are this process's own, which has just begun.
    del report["bodies"], report["pruner"]
    put_values(report, output)


def prune(
    log: LogUrl = DEFAULT_LOG,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the sessions that would end, and change nothing.")
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """End every session that is due: append its expiry to the log."""
    from lastseen.embedded.offline import reading

    with progress_bar("reading", "records") as progress, reading(log, progress=progress, appends=not dry_run) as engine:
        plan = engine.prune(dry_run=dry_run)
    due = [each._asdict() for each in plan.due]
    if output is OutputFormat.JSON:
        put_json({"dry_run": dry_run, "ended": due})
        return
    if output is OutputFormat.TABLE:
        for each in due:
            each["deadline"] = time_text(each["deadline_ms"])
    if due or output is OutputFormat.JSONL:
        put_rows(due, output, _DUE)
    say(f"{len(due):,} due; {'none was ended, this is a dry run' if dry_run else 'all were announced'}")

"""`lastseen close`, `suspend` and `resume`: what an operator does to sessions, one or many."""

from __future__ import annotations

from typing import Annotated

import typer

from lastseen.cli.options import DEFAULT_LOG, LogUrl, Output, OutputFormat, or_any
from lastseen.cli.printing import put_json, put_rows, say
from lastseen.cli.progress import progress_bar
from lastseen.embedded.selection import BulkCommand

_COLUMNS = {"key": "key", "session_id": "session", "result": "result", "error": "error"}
_DONE = {"close": "ended", "suspend": "suspended", "resume": "resumed"}
Keys = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY]...", help="The keys of live sessions.", show_default=False)
]
Owner = Annotated[str | None, typer.Option(metavar="NAME", help="All of this owner.")]
Prefix = Annotated[str | None, typer.Option(metavar="TEXT", help="All whose keys begin with this text.")]
StatusOption = Annotated[str | None, typer.Option(metavar="STATUS", help="Only active, or only suspended ones.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which sessions are meant.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="The reason that the record gives.")]


def close(
    keys: Keys = None,
    log: LogUrl = DEFAULT_LOG,
    owner: Owner = None,
    prefix: Prefix = None,
    status: StatusOption = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """End sessions by key, or all of an owner or under a prefix."""
    _run("close", keys or [], log, owner, prefix, status, reason, dry_run, output)


def suspend(
    keys: Keys = None,
    log: LogUrl = DEFAULT_LOG,
    owner: Owner = None,
    prefix: Prefix = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Suspend sessions, which then neither idle out nor are evicted."""
    _run("suspend", keys or [], log, owner, prefix, None if keys else "active", reason, dry_run, output)


def resume(
    keys: Keys = None,
    log: LogUrl = DEFAULT_LOG,
    owner: Owner = None,
    prefix: Prefix = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Resume suspended sessions."""
    _run("resume", keys or [], log, owner, prefix, None if keys else "suspended", reason, dry_run, output)


def _run(
    command: BulkCommand,
    keys: list[str],
    log: str,
    owner: str | None,
    prefix: str | None,
    status: str | None,
    reason: str | None,
    dry_run: bool,
    output: OutputFormat,
) -> None:
    from lastseen.embedded.offline import reading
    from lastseen.embedded.selection import Filter, execute, select
    from lastseen.engine.errors import InvalidSetting

    if bool(keys) is (owner is not None or prefix is not None):
        raise InvalidSetting("give either keys, or --owner or --prefix: without them, all sessions would be meant")
    wanted = Filter(or_any(owner), or_any(prefix), or_any(status))
    if not keys:
        wanted.check()
    with progress_bar("reading", "records") as progress, reading(log, progress=progress, appends=not dry_run) as engine:
        sessions: list[tuple[str, str | None]]
        if keys:
            sessions = [(key, None if (live := engine.get(key)) is None else live.session_id) for key in keys]
        else:
            sessions, _ = select(engine, wanted, 2**62)
        errors = execute(engine, command, sessions, reason, dry_run=dry_run)
    rows = [
        {
            "key": key, "session_id": session_id, "error": None if error is None else str(error),
            "result": "refused" if error is not None else "selected" if dry_run else "applied",
        }
        for (key, session_id), error in zip(sessions, errors, strict=True)
    ]  # fmt: skip
    if output is OutputFormat.JSON:
        put_json({"dry_run": dry_run, "results": rows})
    elif rows or output is OutputFormat.JSONL:
        put_rows(rows, output, _COLUMNS)
    refused = sum(error is not None for error in errors)
    say(
        f"{len(rows):,} would be {_DONE[command]}; this is a dry run, nothing was written" if dry_run
        else f"{len(rows) - refused:,} {_DONE[command]}" + (f", {refused:,} refused" if refused else "")
    )  # fmt: skip
    if refused:
        raise typer.Exit(1)

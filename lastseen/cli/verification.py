"""`lastseen rebuild` and `lastseen verify`: whether what is on disk is right."""

from __future__ import annotations

from dataclasses import asdict

import typer

from lastseen.cli.exit_codes import FINDINGS
from lastseen.cli.options import DEFAULT_LOG, LogUrl, Output, OutputFormat
from lastseen.cli.printing import put_json, put_rows, put_values, say
from lastseen.cli.progress import progress_bar


def rebuild(log: LogUrl = DEFAULT_LOG, output: Output = OutputFormat.TABLE) -> None:
    """Fold the log from its beginning, and compare with the snapshot.

    The snapshot is first continued from the log. Digests, every live session with its attributes and messages,
    statistics and the history must agree. The command writes nothing.
    """
    from lastseen.embedded.audit import rebuild

    with progress_bar("folding", "records") as progress:
        rebuilt = rebuild(log, progress)
    people = {
        "records folded": f"{rebuilt.records:,}",
        "sessions live": f"{rebuilt.sessions:,}",
        "snapshot": f"up to record {rebuilt.snapshot_records:,}" if rebuilt.snapshot_records else "none",
        **{f"digest of partition {number}": digest for number, digest in rebuilt.digests.items()},
        "differences": len(rebuilt.differences),
    }
    put_values(asdict(rebuilt) | {"ok": not rebuilt.differences}, output, people)
    for difference in rebuilt.differences:
        say(f"lastseen: {difference}")
    if rebuilt.differences:
        say(
            "lastseen: the log is sound, and the snapshot differs from it: delete the snapshot and the history"
            " beside the log"
        )
        raise typer.Exit(FINDINGS)


def verify(log: LogUrl = DEFAULT_LOG, output: Output = OutputFormat.TABLE) -> None:
    """Check the log, the snapshot, the history and the archives. Writes nothing."""
    from lastseen.embedded.audit import verify

    with progress_bar("folding", "records") as progress:
        checks = verify(log, progress)
    is_right = all(check.ok for check in checks)
    if output is OutputFormat.JSON:
        put_json({"ok": is_right, "checks": [check._asdict() for check in checks]})
    else:
        put_rows([check._asdict() for check in checks], output, {"what": "what", "ok": "ok", "says": "found"})
    if not is_right:
        say("lastseen: the checks above that are not ok need attention")
        raise typer.Exit(FINDINGS)

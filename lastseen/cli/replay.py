"""`lastseen replay`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lastseen.cli.options import DEFAULT_LOG, LogUrl, Output, OutputFormat
from lastseen.cli.printing import put_values, say
from lastseen.cli.progress import progress_bar

if TYPE_CHECKING:
    from lastseen.replay.replay import Replayed


def replay(
    recording: Annotated[Path, typer.Argument(metavar="FILE", help="Recorded chat: JSON lines, plain or gzipped.")],
    log: LogUrl = DEFAULT_LOG,
    idle_ttl: Annotated[
        str, typer.Option(metavar="DURATION", help="A session ends this long after its last activity.")
    ] = "30m",
    max_sessions: Annotated[
        int, typer.Option(metavar="N", help="When more sessions are live, the least recently used session ends.")
    ] = 100,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier replay in this log first.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Close the import: from then on the log's own clock sets log time.")
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Replay recorded chat into a log, in the recording's own time.

    An interrupted replay continues when it is started again. Without --finish the log stays open for import, and
    other commands read it as of the end of the recording.
    """
    from lastseen.replay.replay import delete_replay, replay

    if fresh:
        for path in delete_replay(log):
            say(f"deleted {path}")
    with progress_bar("replaying", "lines") as progress, _rare_garbage_collections():
        replayed = replay(
            recording, log, idle_ttl=idle_ttl, max_sessions=max_sessions, finish=finish, progress=progress
        )
    if replayed.found_records:
        say(f"the log held {replayed.found_records:,} records of this replay already")
    sizes = _sizes(log)
    put_values(replayed.as_dict() | sizes, output, _for_people(replayed, sizes), f"Replay of {recording.name}")


@contextmanager
def _rare_garbage_collections() -> Iterator[None]:
    """Look for garbage in cycles rarely: a replay makes objects by the million and no cycles. Saves a tenth."""
    before = gc.get_threshold()
    gc.set_threshold(200_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _sizes(url: str) -> dict[str, int | None]:
    from lastseen.embedded.offline import files_of, log_path, snapshot_path

    if not url.startswith("sqlite:"):
        return {"log_bytes": None, "snapshot_bytes": None}
    log = log_path(url)
    sizes = {path: path.stat().st_size for path in files_of(log)}
    return {
        "log_bytes": sum(size for path, size in sizes.items() if path in (log, Path(f"{log}-wal"))),
        "snapshot_bytes": sizes.get(snapshot_path(log), 0),
    }


def _for_people(replayed: Replayed, sizes: dict[str, int | None]) -> dict[str, Any]:
    from lastseen.projections.explain import duration_text

    figures = replayed.figures
    return {
        "events read": f"{figures.events_read:,}",
        "sessions created": f"{figures.created:,}",
        **{f"  ended: {reason}": f"{count:,}" for reason, count in sorted(figures.ended.items())},
        "live at the end": f"{figures.live:,}",
        "most live at once": f"{figures.peak_live:,}",
        "longest session": duration_text(figures.longest_ms),
        "records in the log": f"{figures.records:,}",
        "records appended now": f"{replayed.appended:,}",
        "events a second": f"{replayed.as_dict()['events_per_second']:,}",
        **{
            name.replace("_bytes", " size"): f"{size / 1e6:,.1f} MB" for name, size in sizes.items() if size is not None
        },
        "digest": figures.digest,
    }

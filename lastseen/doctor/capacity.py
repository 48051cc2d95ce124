"""Whether more sessions live than `max_sessions` allows: a start would end the others within seconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lastseen.doctor.findings import Finding, ok, warning
from lastseen.engine.errors import InvalidSetting
from lastseen.engine.log.read_only import ReadOnlyFile
from lastseen.projections.snapshot_rows import Damaged, decode_partition, unsealed

STEP = "raise max_sessions before the next start, if they are to live on: whatever is ended stays ended"


def capacity(snapshot: str | None, max_sessions: int | None) -> Iterator[Finding]:
    """What is to be said of `max_sessions`, as far as the snapshot tells."""
    live = None if snapshot is None or max_sessions is None else stored_sessions(snapshot)
    if live is None or max_sessions is None:
        return
    if live > max_sessions:
        yield warning("capacity", excess(live, max_sessions), STEP)
    else:
        yield ok("capacity", f"{live:,} sessions live, and max_sessions is {max_sessions:,}")


def excess(live: int, max_sessions: int) -> str:
    """The sentence on sessions that are too many."""
    return (
        f"{live:,} sessions live, and max_sessions is {max_sessions:,}: a start ends the {live - max_sessions:,} least"
        " recently used that are neither suspended nor held"
    )


def stored_sessions(snapshot: str) -> int | None:
    """How many live sessions a snapshot has; `None` where there is none, or it cannot be read."""
    if not Path(snapshot).is_file():
        return None
    try:
        with ReadOnlyFile(snapshot) as file:
            rows = file.read(lambda connection: connection.execute("SELECT state FROM partitions").fetchall())
        return sum(decode_partition(unsealed(state)).sessions for (state,) in rows)
    except (sqlite3.Error, Damaged, msgspec.MsgspecError, OSError):
        return None  # the check of the snapshot says so


def snapshot_of(url: str, snapshot: str | None) -> str | None:
    """The file of the snapshot that an engine on this log uses; `None` where that is in memory."""
    if snapshot is not None:
        return None if snapshot == ":memory:" else snapshot
    from lastseen.embedded.offline import log_path, snapshot_path

    try:
        return str(snapshot_path(log_path(url)))
    except InvalidSetting:
        return None

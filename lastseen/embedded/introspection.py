"""Figures of a running engine: what it measures, its statistics, its snapshot. Nothing here changes anything."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lastseen.embedded.duties import EngineDuties
from lastseen.embedded.histogram import Durations
from lastseen.embedded.lag import LogWatch
from lastseen.embedded.loading import State
from lastseen.embedded.metered_log import MeteredLog
from lastseen.engine.errors import LogError
from lastseen.projections.live_view import LiveView
from lastseen.projections.pruner import Pruner
from lastseen.projections.snapshot import Snapshot
from lastseen.projections.snapshot_file import IN_MEMORY


class Meters:
    """What an engine measures of itself as it works."""

    def __init__(self, log: MeteredLog, watch: LogWatch, now_ms: int) -> None:
        self.log = log
        self.watch = watch
        self.flushes = Durations()
        self.saved_at_ms = now_ms
        """When the snapshot was last seen to hold all that there was to write."""


class SnapshotState(NamedTuple):
    """How the snapshot stands."""

    path: str
    size_bytes: int
    """With what SQLite keeps beside it; 0 for one in memory."""
    unsaved: int
    """Sessions that have changed since the last flush."""
    age_ms: int
    """For how long it has lagged behind what is folded, at the most; 0 if it holds all."""


class PartitionsState(NamedTuple):
    """How the partitions of an engine stand."""

    expected: frozenset[int]
    """Those that it is to answer for, loaded or not: all, or with `view="owned"` those that it owns."""
    served: frozenset[int]
    """Those of them that it answers for."""
    standby: frozenset[int]
    """Those that it holds besides: for the case that their owner fails, or to own them once it has caught up."""
    failed: dict[int, LogError]
    """Those that cannot be read any further, or are not what was folded, and why: their keys are refused, and listings,
    counts and the pruner leave them out."""


def partitions_of(view: LiveView, duties: EngineDuties) -> PartitionsState:
    """How the partitions stand."""
    expected, failed = duties.expected(), dict(view.failures)
    return PartitionsState(expected, (view.served & expected) - failed.keys(), view.standby, failed)


def statistics_of(state: State, view: LiveView, pruner: Pruner) -> dict[str, Any]:
    """Counters and gauges as plain JSON values."""
    bodies = state.bodies
    with view.lock:
        report = state.statistics.report([each for each in view.partitions if each.number not in view.standby])
        report["failed_partitions"] = sorted(view.failures)
        report["bodies"] = {
            "bytes": bodies.whole_bytes,
            "hits": bodies.hits,
            "misses": bodies.misses,
            "evictions": dict(bodies.evictions),
        }
    report["pruner"] = {"runs": pruner.runs, "announced": pruner.announced, "spared": dict(pruner.spared)}
    return report


def checkpoints_of(view: LiveView) -> dict[int, tuple[int, str]]:
    """For each partition the next offset to read, and the digest of all before it in hexadecimal."""
    with view.lock:
        return {part.number: (part.checkpoint, part.digest.hex()) for part in view.partitions}


def snapshot_state_of(snapshot: Snapshot, meters: Meters, now_ms: int) -> SnapshotState:
    """How the snapshot stands at `now_ms`."""
    unsaved = snapshot.unsaved()
    age_ms = max(now_ms - meters.saved_at_ms, 0) if unsaved else 0
    return SnapshotState(snapshot.path, size_of(snapshot.path), unsaved, age_ms)


def size_of(path: str) -> int:
    """What an SQLite file takes on the disk, in bytes; 0 if it is in memory or not there."""
    size = 0
    for each in () if path == IN_MEMORY else (path, f"{path}-wal"):
        with suppress(OSError):
            size += Path(each).stat().st_size
    return size

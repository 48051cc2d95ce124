"""What those who run an engine ask of it: figures, what fails, how far it is behind. Nothing here changes anything."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lastseen.embedded.background import BackgroundThreads
from lastseen.embedded.duties import EngineDuties
from lastseen.embedded.histogram import Durations
from lastseen.embedded.lag import Lag, LogWatch
from lastseen.embedded.memory_relief import MemoryRelief
from lastseen.embedded.metered_log import MeteredLog
from lastseen.embedded.settings import Settings
from lastseen.engine.commands import Commands
from lastseen.engine.errors import LastseenError
from lastseen.projections.bodies import Bodies
from lastseen.projections.history import History
from lastseen.projections.live_view import LiveView
from lastseen.projections.pruner import Pruner
from lastseen.projections.snapshot import Snapshot
from lastseen.projections.snapshot_file import IN_MEMORY
from lastseen.projections.statistics import Statistics


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


class Observed(Commands):
    """The commands, and what can be asked about the engine that carries them out."""

    _settings: Settings
    _statistics: Statistics
    _bodies: Bodies
    _snapshot: Snapshot
    _history: History
    _views: LiveView
    _pruner: Pruner
    _background: BackgroundThreads
    _memory_relief: MemoryRelief
    _duties: EngineDuties
    meters: Meters
    """What is measured on the way."""

    def now_ms(self) -> int:
        """The time by this engine's clock."""
        return self._clock.now_ms()

    def held(self) -> frozenset[int]:
        """The partitions whose sessions this engine answers for: all, or with `view="owned"` those that it owns."""
        return self._views.served

    def owned(self) -> frozenset[int]:
        """The partitions for which this engine does the owner's duties: it announces expiries and publishes facts."""
        return self._duties.owned() & self._views.served

    def statistics(self) -> dict[str, Any]:
        """Counters and gauges as plain JSON values."""
        with self._views.lock:
            report = self._statistics.report(self._views.partitions)
            report["bodies"] = {
                "bytes": self._bodies.whole_bytes,
                "hits": self._bodies.hits,
                "misses": self._bodies.misses,
                "evictions": dict(self._bodies.evictions),
            }
        report["pruner"] = {
            "runs": self._pruner.runs,
            "announced": self._pruner.announced,
            "spared": dict(self._pruner.spared),
        }
        return report

    def expiry_lags(self) -> list[int]:
        """How many expiries were late by up to each of `projections.statistics.EXPIRY_LAG_BOUNDS_MS`, and by more."""
        with self._views.lock:
            return self._statistics.expiry_lags()

    def checkpoints(self) -> dict[int, tuple[int, str]]:
        """For each partition the next offset to read, and the digest of all before it in hexadecimal."""
        with self._views.lock:
            return {part.number: (part.checkpoint, part.digest.hex()) for part in self._views.partitions}

    def health(self) -> dict[str, LastseenError]:
        """What goes wrong in the background at the moment, by thread; empty if all is well."""
        return dict(self._background.failures)

    def obstacle(self) -> LastseenError | None:
        """Why this engine can answer nothing more, if so: it has shut down, or its fold has stopped for good."""
        try:
            self._check_open()
        except LastseenError as error:
            return error
        return None

    def lags(self) -> list[Lag]:
        """How far each partition held here is behind the log. Raises `LogError` where the log does not answer."""
        return self.meters.watch.look(self._clock.now_ms())

    def log_ends(self) -> list[int]:
        """For each partition the offset of its next record, asked of the log itself: it answers, or this raises
        `LogError`."""
        return self._log.end_offsets()

    def snapshot_state(self) -> SnapshotState:
        """How the snapshot stands: where it is, its size, and how far it lags behind."""
        unsaved = self._snapshot.unsaved()
        age_ms = max(self._clock.now_ms() - self.meters.saved_at_ms, 0) if unsaved else 0
        return SnapshotState(self._snapshot.path, size_of(self._snapshot.path), unsaved, age_ms)

    def memory_share(self) -> float:
        """Resident memory as a share of the limit that is set, or of the cgroup's; 0 where either is unknown."""
        return self._memory_relief.pressure.share()


def size_of(path: str) -> int:
    """What an SQLite file takes on the disk, in bytes; 0 if it is in memory or not there."""
    size = 0
    for each in () if path == IN_MEMORY else (path, f"{path}-wal"):
        with suppress(OSError):
            size += Path(each).stat().st_size
    return size

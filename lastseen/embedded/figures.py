"""What an engine says of itself: its partitions, its figures, how its duties and its snapshot stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lastseen.embedded import introspection
from lastseen.embedded.duties import EngineDuties
from lastseen.embedded.introspection import Meters, PartitionsState, SnapshotState
from lastseen.embedded.lag import Lag
from lastseen.embedded.loading import State
from lastseen.embedded.maintenance import Maintenance
from lastseen.engine.clock import Clock
from lastseen.engine.errors import LastseenError, LogError
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.engine.log.port import Log
from lastseen.projections.live_view import LiveView
from lastseen.projections.pruner import Pruner
from lastseen.projections.sources import SourceReport


class Figures:
    """The part of an engine that only reports. Nothing here changes anything."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        *,
        state: State,
        view: LiveView,
        duties: EngineDuties,
        pruner: Pruner,
        maintenance: Maintenance,
        health: DutyHealth,
        meters: Meters,
        check_open: Callable[[], None],
    ) -> None:
        """`check_open` raises `EngineClosed` after the shutdown, and what has stopped the fold."""
        self._log = log
        self._clock = clock
        self._state = state
        self._views = view
        self._duties = duties
        self._pruner = pruner
        self._maintenance = maintenance
        self._raise_if_closed = check_open
        self.duty_health = health
        self.meters = meters
        """What the engine measures of itself."""

    @property
    def log_identity(self) -> str:
        """Names the engine's log: another one, or the same one recreated, has another."""
        return self._log.identity

    def now_ms(self) -> int:
        """The time by this engine's clock."""
        return self._clock.now_ms()

    def held(self) -> frozenset[int]:
        """The partitions whose sessions this engine answers for: all, or with `view="owned"` those that it owns."""
        return self._views.served

    def partitions(self) -> PartitionsState:
        """Which partitions this engine is to answer for, which it does, and which have failed, and why."""
        return introspection.partitions_of(self._views, self._duties)

    def owned(self) -> frozenset[int]:
        """The partitions for which this engine does the owner's duties: it announces expiries and publishes facts."""
        return self._duties.performed()

    def statistics(self) -> dict[str, Any]:
        """Counters and gauges as plain JSON values."""
        return introspection.statistics_of(self._state, self._views, self._pruner)

    def expiry_lags(self) -> list[int]:
        """How many expiries were late by up to each of `projections.statistics.EXPIRY_LAG_BOUNDS_MS`, and by more."""
        with self._views.lock:
            return self._state.statistics.expiry_lags()

    def sources(self) -> list[SourceReport]:
        """Who wrote what was folded here since the process began, the busiest first: records and voids by source."""
        with self._views.lock:
            return self._state.statistics.sources.report()

    def strangers(self) -> dict[str, int]:
        """How many records of strangers this engine has seen as an owner, by topic beside the log: `facts`, `state`."""
        return self._duties.strangers()

    def checkpoints(self) -> dict[int, tuple[int, str]]:
        """For each partition the next offset to read, and the digest of all before it in hexadecimal."""
        return introspection.checkpoints_of(self._views)

    def health(self) -> dict[str, LastseenError]:
        """The error of each background duty that fails at the moment; empty if all work."""
        return dict(self.duty_health.failures)

    def obstacle(self) -> LastseenError | None:
        """Why this engine can serve no more calls, if so: it has shut down, or its fold has stopped permanently."""
        try:
            self._raise_if_closed()
        except LastseenError as error:
            return error
        return None

    def lags(self) -> list[Lag]:
        """How far each partition held here is behind the log. Raises `LogError` where the log does not answer."""
        return self.meters.watch.look(self._clock.now_ms())

    def log_ends(self) -> list[int]:
        """For each partition the offset of its next record, asked of the log itself. Raises `LogError`."""
        return self._log.end_offsets()

    def append_obstacle(self) -> LastseenError | None:
        """Why the log takes no appends at the moment, if so. Asks the log where appends fail, which may take as long as
        its time-outs; where they succeed it costs nothing."""
        check: Callable[[], None] | None = getattr(self._log, "check_appendable", None)
        try:
            if check is not None:
                check()
        except LogError as error:
            return error
        return None if check is not None else self.meters.log.standing_failure()

    def void_gap_ms(self) -> int | None:
        """The log's clock less this machine's, where they differ so much that each record of this engine is void."""
        return self.meters.watch.void_gap_ms(self._clock.now_ms())

    def snapshot_state(self) -> SnapshotState:
        """How the snapshot stands: where it is, its size, and how far it lags behind."""
        return introspection.snapshot_state_of(self._state.snapshot, self.meters, self._clock.now_ms())

    def memory_share(self) -> float:
        """Resident memory as a share of the limit that is set, or of the cgroup's; 0 where either is unknown."""
        return self._maintenance.memory_relief.pressure.share()

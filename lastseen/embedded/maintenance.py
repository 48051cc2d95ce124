"""Maintenance: what an engine does besides answering. It follows the log, announces what is due, flushes, archives,
and frees memory. The background threads call these tasks; an engine without threads leaves them to its caller."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from lastseen.embedded.background import FOLLOW_EVERY_S, BackgroundThreads
from lastseen.embedded.duties import EngineDuties
from lastseen.embedded.folding import fold_in_turns, raise_passing
from lastseen.embedded.introspection import Meters
from lastseen.embedded.loading import State, holds_owned
from lastseen.embedded.memory_pressure import MemoryPressure
from lastseen.embedded.memory_relief import MemoryRelief
from lastseen.embedded.owned_partitions import OwnedPartitions
from lastseen.embedded.settings import Settings, duration_ms
from lastseen.engine.clock import Clock
from lastseen.engine.log.port import Log
from lastseen.projections.follower import Follower
from lastseen.projections.live_view import LiveView
from lastseen.projections.pruner import Pruner

Progress = Callable[[int, int], None]
"""Called while the log is read at the start, with how many records are folded and how many there are."""
HEAVY_RECORDS = 20_000
HEAVY_SESSIONS = 200_000
"""How much may wait for a flush while a partition is loaded."""
HEAVY_AT_START = 100_000
"""How many records may wait while no call is served yet, and memory is not short: about 50 MB. Of a key's records, the
history writes those of one flush side by side, so that a flush of as many costs half as much a record."""
ROOMY = 0.5
"""The share of memory in use below which it is not short."""

_logger = logging.getLogger("lastseen")


class Maintenance:
    """The tasks of one engine. A task that fails raises; the next run of it continues."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        log: Log,
        *,
        state: State,
        view: LiveView,
        follower: Follower,
        duties: EngineDuties,
        pruner: Pruner,
        background: BackgroundThreads,
        meters: Meters,
        check_open: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self._state = state
        self._view = view
        self._follower = follower
        self._duties = duties
        self._pruner = pruner
        self._background = background
        self._meters = meters
        self._check_open = check_open
        self.memory_relief = MemoryRelief(MemoryPressure(settings.max_memory_bytes), state.bodies, view.lock)
        state.bodies.call_every(self.memory_relief.step_bytes(settings.max_body_bytes), background.request_flush)
        self.owned_partitions = (
            OwnedPartitions(
                log,
                view,
                follower,
                state,
                duties,
                background.health,
                settings.acceptable_lag,
                self.flush,
                self.flush_if_heavy,
                background.goes_on,
            )
            if holds_owned(log, settings)
            else None
        )
        """With `view="owned"`, what is loaded and dropped as duties change."""
        self._archive_every_ms = (
            None if settings.archive_interval is None else duration_ms("archive_interval", settings.archive_interval)
        )
        self._archived_at_ms = clock.now_ms()

    def start(self) -> None:
        """Start the background threads."""
        self._background.start(
            follow=self.follow,
            follow_every_s=0 if self._duties.waits else FOLLOW_EVERY_S,
            flush=self.save_and_relieve,
            flush_every_s=duration_ms("snapshot_interval", self._settings.snapshot_interval) / 1000,
            prune=self.prune if self._settings.prune else None,
            publish=self._duties.publish if self._duties.publishes else None,
        )

    def catch_up(self, progress: Progress | None) -> None:
        """Fold all that the log holds, and what is appended meanwhile while that becomes less; memory stays bounded.

        A log that grows as fast as it is folded has no end to wait for: `follow` folds its last records.
        """
        before: int | None = None
        while True:
            ends = self._log.end_offsets()
            self._follower.check()
            left = {number: max(0, ends[number] - self._follower.folded(number)) for number in self._readable()}
            if not any(left.values()) or (before is not None and sum(left.values()) > before // 2):
                self._warn_of_excess()
                return
            before = sum(left.values())
            report = None if progress is None else self._reporting(progress, sum(ends))
            failed = fold_in_turns(
                self._follower, {number: ends[number] for number in left}, goes_on=self._background.goes_on,
                after_read=partial(self._after_read, report),
            )  # fmt: skip
            raise_passing(failed)  # the follower has recorded permanent failures

    def _warn_of_excess(self) -> None:
        """Say how many sessions this start ends: `max_sessions` may have been lowered by mistake."""
        most, live = self._settings.max_sessions, self._view.count()
        if self._settings.prune and most is not None and live > most:
            _logger.warning(
                "max_sessions is %s, and %s sessions live: the pruner ends the %s least recently used that are neither"
                " suspended nor held; to keep them, stop this process and raise max_sessions",
                most, live, live - most,
            )  # fmt: skip

    def _readable(self) -> frozenset[int]:
        return self._view.present - self._view.failures.keys()

    def _after_read(self, report: Callable[[], None] | None) -> None:
        is_roomy = self.memory_relief.pressure.share() < ROOMY
        self.flush_if_heavy(HEAVY_AT_START if is_roomy else HEAVY_RECORDS)
        if report is not None:
            report()

    def _reporting(self, progress: Progress, total: int) -> Callable[[], None]:
        return lambda: progress(sum(each.checkpoint for each in self._view.partitions), total)

    def follow(self) -> None:
        """Take up and drop partitions as duties change, and fold what other processes have written."""
        is_loading = False
        if self.owned_partitions is not None and not self._duties.is_leaving:
            if self.owned_partitions.adjust():
                self._background.wake_pruner()
            is_loading = self.owned_partitions.is_loading
        self._duties.follow(self._follower, self._background.goes_on, waits=not is_loading)

    def prune(self) -> int:
        """Announce what is due; returns how many sessions."""
        if self._view.is_importing:
            return 0  # the history that is being imported says itself what ended when
        raise_passing(fold_in_turns(self._follower, self._follower.open_ends(), goes_on=self._background.goes_on))
        self._follower.check()
        return len(self._pruner.run(self._clock.now_ms()).due)

    def flush(self) -> int:
        """Write the history and the snapshot; returns how many sessions were written. Raises `SnapshotError`."""
        if self._follower.is_torn:
            # What an interrupted fold left behind must not be kept: the next start folds it from the log.
            self._follower.check()
        now_ms = self._clock.now_ms()
        state = self._state
        with self._meters.flushes.timed():
            written = state.snapshot.flush(
                self._view.present_partitions(), state.statistics, state.bodies, state.history, self._view.lock
            )
        self._meters.saved_at_ms = now_ms
        return written

    def flush_if_heavy(self, records: int = HEAVY_RECORDS) -> None:
        """Flush, and free memory, if much waits for a flush: so many records, or sessions."""
        if (
            self._background.take_flush_request()
            or self._state.history.unsaved() >= records
            or self._state.snapshot.unsaved() >= HEAVY_SESSIONS
        ):
            self._check_open()
            self.flush()
            self.memory_relief.shed()

    def archive(self) -> str | None:
        """Flush, and write a verified copy of the snapshot; returns its path, or `None` if the snapshot is in memory.

        Raises `SnapshotError` and `EngineClosed`.
        """
        self._check_open()
        self.flush()
        return self._state.snapshot.archive()

    def save_and_relieve(self) -> None:
        """Save what has changed; then, even if that failed, archive if it is time, and free memory if it is short.

        Raises what saving does. Archiving and memory are duties of their own, so that none keeps another from its turn.
        """
        health = self._background.health
        try:
            self._save()
        finally:
            self._view.forget_listings(self._clock.now_ms())
            for duty, work in (("archive", self._archive_if_due), ("memory", self.relieve_memory)):
                if not health.wait_s(duty):
                    health.attempt(duty, work)

    def _save(self) -> None:
        if self._duties.publishes and "publish" not in self._background.failures:
            # What has been published need not be kept in the outbox.
            self._duties.publish()
        now_ms = self._clock.now_ms()
        self._meters.watch.sample(now_ms)
        snapshot = self._state.snapshot
        if snapshot.unsaved() or self._state.history.unsaved() or snapshot.has_published():
            self._check_open()
            self.flush()
        snapshot.shrink()
        self._meters.saved_at_ms = now_ms

    def _archive_if_due(self) -> None:
        now_ms = self._clock.now_ms()
        if self._archive_every_ms is not None and now_ms - self._archived_at_ms >= self._archive_every_ms:
            self.archive()
            self._archived_at_ms = now_ms

    def relieve_memory(self) -> None:
        """Free memory if it is short: bodies first, then, with `evict_on_pressure`, sessions."""
        may_end = self._settings.evict_on_pressure and not self._view.is_importing
        self.memory_relief.make_room(self._evict if may_end else None)

    def _evict(self) -> None:
        """End the least recently used twentieth of the sessions that are ours to end, for `memory`."""
        live, before = self._pruner.live(), None
        left = max(live // 20, 1)
        while left > 0 and live != before:
            now_ms, before = self._clock.now_ms(), live
            left -= self._pruner.execute(self._pruner.plan_memory(now_ms, left), now_ms)
            live = self._pruner.live()

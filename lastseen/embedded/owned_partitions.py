"""What an engine with `view="owned"` holds: the partitions that it owns, and those that it keeps ready for others.

A partition is taken up as a whole engine starts: from the snapshot, if that knows it, and then from the log. Keys in it
are answered for once it has almost caught up, also while another engine owns it: the log decides what takes effect.
Dropped, it leaves memory; what the snapshot has of it stays for the next time. A partition that cannot be had keeps no
other from being held: it is tried again, or has failed permanently, by itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from lastseen.embedded.duties import EngineDuties
from lastseen.embedded.folding import fold_in_turns
from lastseen.embedded.loading import State
from lastseen.engine.errors import EngineClosed, LastseenError
from lastseen.engine.log.duty_health import RETRY_S, DutyHealth
from lastseen.engine.log.port import Log
from lastseen.projections.follower import PARTITION_ERRORS, Follower
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Partition
from lastseen.projections.snapshot_rows import Damaged
from lastseen.projections.statistics import Counts

DUTY = "load"
_logger = logging.getLogger("lastseen")


class OwnedPartitions:
    """Keeps what is held in step with what the group says. For one thread."""

    def __init__(
        self,
        log: Log,
        view: LiveView,
        follower: Follower,
        state: State,
        duties: EngineDuties,
        health: DutyHealth,
        acceptable_lag: int,
        flush: Callable[[], object],
        flush_if_heavy: Callable[[], object],
        goes_on: Callable[[], bool],
    ) -> None:
        self._log = log
        self._view = view
        self._follower = follower
        self._state = state
        self._duties = duties
        self._health = health
        self._acceptable_lag = acceptable_lag
        self._flush = flush
        self._flush_if_heavy = flush_if_heavy
        self._goes_on = goes_on
        self._again_s: dict[int, float] = {}
        """Partitions that could not be taken up, loaded or dropped, and when that is tried again."""
        view.present = view.served = frozenset()

    @property
    def is_loading(self) -> bool:
        """Whether there is a partition to load at once."""
        return bool(self._loading())

    def _loading(self) -> frozenset[int]:
        return self._ready_to_try(self._view.present - self._view.served)

    def _ready_to_try(self, numbers: frozenset[int]) -> frozenset[int]:
        if not self._again_s:
            return numbers
        now_s = time.monotonic()
        return frozenset(number for number in numbers if self._again_s.get(number, now_s) <= now_s)

    def adjust(self) -> bool:
        """Drop what is no longer wanted, take up what is, and load for a while; whether anything has changed.

        Raises `LogError` where the log gives no ends.
        """
        view, to_hold = self._view, self._duties.to_hold()
        before, known = (view.served, view.standby), view.present | view.served
        for number in sorted(self._ready_to_try(known - to_hold)):
            self._attempt(number, self._drop)
        for number in sorted(self._ready_to_try(to_hold - known)):
            self._attempt(number, self._take_up)
        view.standby = self._duties.kept_for_others()
        if self.is_loading:
            self._load()
        if not self._again_s:
            self._health.succeeded(DUTY)
        return (view.served, view.standby) != before

    def _attempt(self, number: int, work: Callable[[int], None]) -> None:
        try:
            work(number)
        except Exception as error:
            self._try_later(number, error)
        else:
            self._again_s.pop(number, None)

    def _try_later(self, number: int, error: Exception) -> None:
        if isinstance(error, EngineClosed):
            return
        _logger.debug("partition %s: %r", number, error)
        self._health.failed(DUTY, error)
        self._again_s[number] = time.monotonic() + RETRY_S

    def _load(self) -> None:
        """One turn of each partition that is not served yet; one that has almost caught up is served from now on."""
        loading, ends = self._loading(), self._log.end_offsets()
        failed = fold_in_turns(
            self._follower, {number: ends[number] for number in loading},
            goes_on=self._goes_on, after_read=self._flush_if_heavy, rounds=1,
        )  # fmt: skip
        for number in loading:
            error = failed.get(number)
            if isinstance(error, PARTITION_ERRORS):  # the follower has recorded it: its keys are refused for that
                self._serve(number)
            elif error is not None:
                self._try_later(number, error)
            else:
                self._again_s.pop(number, None)
                if ends[number] - self._follower.folded(number) <= self._acceptable_lag:
                    self._serve(number)
                    _logger.info("partition %s is held, up to offset %s", number, self._follower.folded(number))

    def _serve(self, number: int) -> None:
        self._view.served |= {number}
        self._state.snapshot.starting.discard(number)

    def _take_up(self, number: int) -> None:
        try:
            partition = self._from_snapshot(number)
        except PARTITION_ERRORS as error:  # the snapshot is of another log, or of more than this one has
            self._follower.fail(number, error)
            self._view.served |= {number}
            return
        with self._view.lock:
            self._view.partitions[number] = partition
            self._follower.reset(number)
            self._view.present |= {number}
            if not partition.checkpoint:
                self._state.snapshot.starting.add(number)
        self._duties.skip_published([number])

    def _from_snapshot(self, number: int) -> Partition:
        """The partition as the snapshot has it; an empty one where it has none that is sound. Raises `LogMismatch`."""
        partition, state = Partition(number), self._state
        with state.snapshot.lock, state.history.lock:
            try:
                state.snapshot.load([partition], state.statistics, self._log.end_offsets)
                if state.history.reached().get(number, 0) < partition.checkpoint:
                    raise Damaged("its history is older than the snapshot, or missing")
            except Damaged as damage:
                note = f"partition {number} cannot be loaded from the snapshot ({damage}): it is folded from the log"
                state.notes.append(note)
                _logger.warning("%s", note)
                with self._view.lock:
                    self._forget(number)
                return Partition(number)
        return partition

    def _drop(self, number: int) -> None:
        # First stop answering for it; then save what is known; then drop it.
        self._view.served -= {number}
        if number in self._view.present:
            try:
                self._flush()
            except LastseenError as error:
                _logger.warning("partition %s was not flushed before it was dropped: %s", number, error)
        state = self._state
        with state.snapshot.lock, state.history.lock, self._view.lock:
            self._view.present -= {number}
            self._view.partitions[number] = Partition(number)
            self._follower.reset(number)
            self._forget(number)
        _logger.info("partition %s is no longer held", number)

    def _forget(self, number: int) -> None:
        state = self._state
        state.snapshot.forget(number)
        state.bodies.forget(number)
        state.statistics.counts[number] = Counts()
        if state.outbox is not None:
            state.outbox.forget(number)

"""What an engine with `view="owned"` holds: partitions, taken up as it becomes their owner, dropped as it ceases to be.

A partition is taken up as a whole engine starts: from the snapshot, if that knows it, and then from the log; keys in it
are answered for once it has caught up. Dropped, it leaves memory; what the snapshot has of it stays for the next time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from lastseen.embedded.loading import State
from lastseen.engine.errors import LastseenError
from lastseen.engine.log.port import Log
from lastseen.projections.follower import PARTITION_ERRORS, Follower
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Partition
from lastseen.projections.snapshot_rows import Damaged
from lastseen.projections.statistics import Counts

_logger = logging.getLogger("lastseen")


class OwnedPartitions:
    """Keeps what is held in step with what is owned. For one thread."""

    def __init__(
        self,
        log: Log,
        view: LiveView,
        follower: Follower,
        state: State,
        owned: Callable[[], frozenset[int]],
        flush: Callable[[], object],
        flush_if_heavy: Callable[[], object],
    ) -> None:
        self._log = log
        self._view = view
        self._follower = follower
        self._state = state
        self._owned = owned
        self._flush = flush
        self._flush_if_heavy = flush_if_heavy
        view.present = view.served = frozenset()

    def adjust(self) -> bool:
        """Drop what is no longer owned, and take up what is; whether anything has changed. Raises `LogError`."""
        owned, before = self._owned(), self._view.served
        for number in self._view.present - owned:
            self._drop(number)
        for number in sorted(owned - self._view.present):
            self._take_up(number)
        if self._view.present != self._view.served:
            ends = self._log.end_offsets()
            # The one with the least to fold first: a small partition is not kept waiting by a large one.
            for number in sorted(self._view.present - self._view.served, key=lambda each: self._left(each, ends)):
                try:
                    self._catch_up(number)
                except PARTITION_ERRORS:  # the follower has recorded it
                    self._view.served |= {number}
        return self._view.served != before

    def _left(self, number: int, ends: Sequence[int]) -> int:
        return ends[number] - self._view.partitions[number].checkpoint

    def _take_up(self, number: int) -> None:
        partition, state = Partition(number), self._state
        with state.snapshot.lock, state.history.lock:
            try:
                state.snapshot.load([partition], state.statistics, self._log.end_offsets)
                if state.history.reached().get(number, 0) < partition.checkpoint:
                    raise Damaged("the history beside it is older than it is, or missing")
            except Damaged as damage:
                note = f"partition {number} cannot be had from the snapshot ({damage}): it is folded from the log"
                state.notes.append(note)
                _logger.warning("%s", note)
                partition = Partition(number)
                with self._view.lock:
                    self._forget(number)
            with self._view.lock:
                self._view.partitions[number] = partition
                self._follower.reset(number)
                self._view.present |= {number}

    def _catch_up(self, number: int) -> None:
        while number in self._owned():
            end = self._log.end_offsets()[number]
            if self._view.partitions[number].checkpoint >= end:
                self._view.served |= {number}
                _logger.info("partition %s is held, up to offset %s", number, end)
                return
            while self._view.partitions[number].checkpoint < end and number in self._owned():
                self._follower.advance(number, end)
                self._flush_if_heavy()

    def _drop(self, number: int) -> None:
        # First stop answering for it; then save what is known; then drop it.
        self._view.served -= {number}
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

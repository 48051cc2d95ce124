"""What an engine with `view="owned"` holds: partitions, taken up as it becomes their owner, dropped as it ceases to be.

A partition is taken up as a whole engine starts: from the snapshot, if that knows it, and then from the log; keys in it
are answered for once it has caught up. Dropped, it leaves memory; what the snapshot has of it stays for the next time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from lastseen.embedded.folding import fold_in_turns, raise_passing
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
        goes_on: Callable[[], bool],
        skip_published: Callable[[Iterable[int]], None],
    ) -> None:
        self._log = log
        self._view = view
        self._follower = follower
        self._state = state
        self._owned = owned
        self._flush = flush
        self._flush_if_heavy = flush_if_heavy
        self._goes_on = goes_on
        self._skip_published = skip_published
        view.present = view.served = frozenset()

    @property
    def is_loading(self) -> bool:
        """Whether a partition is present and cannot be served yet."""
        return self._view.present != self._view.served

    def adjust(self) -> bool:
        """Drop what is no longer owned, take up what is, and load for a while; whether anything has changed.

        Raises `LogError`.
        """
        owned, before = self._owned(), self._view.served
        for number in self._view.present - owned:
            self._drop(number)
        for number in sorted(owned - self._view.present):
            self._take_up(number)
        if self.is_loading:
            self._load()
        return self._view.served != before

    def _load(self) -> None:
        """One turn of each partition that is not served yet; those that have caught up are served from then on."""
        loading = self._view.present - self._view.served
        ends = self._log.end_offsets()
        failed = fold_in_turns(
            self._follower, {number: ends[number] for number in loading},
            goes_on=self._goes_on, after_read=self._flush_if_heavy, rounds=1,
        )  # fmt: skip
        for number in loading:
            is_over = isinstance(failed.get(number), PARTITION_ERRORS)  # the follower has recorded it
            if is_over or self._follower.folded(number) >= ends[number]:
                self._view.served |= {number}
                self._state.snapshot.starting.discard(number)
                _logger.info("partition %s is held, up to offset %s", number, ends[number])
        raise_passing(failed)

    def _take_up(self, number: int) -> None:
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
                partition = Partition(number)
                with self._view.lock:
                    self._forget(number)
            with self._view.lock:
                self._view.partitions[number] = partition
                self._follower.reset(number)
                self._view.present |= {number}
                if not partition.checkpoint:
                    state.snapshot.starting.add(number)
        self._skip_published([number])

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

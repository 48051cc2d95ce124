"""The threads behind an engine that follow the log, announce what is due, and flush what has changed.

Nothing that a caller waits for depends on them: a caller folds its own record. No exception ends a thread: `DutyHealth`
records it, and the duty is tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Sequence

from lastseen.engine.clock import Clock
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Outcome, Partition, TouchRun

FOLLOW_EVERY_S = 0.025
"""How often the log is asked for records that other processes wrote."""
LONGEST_SLEEP_MS = 60_000
PUBLISH_EVERY_S = 0.025
"""How often facts are published, all that there are at once."""
EVICTION_DELAY_S = 0.01
"""How long the pruner waits when more sessions live than may, so that evictions share a flush of the disk."""
GIVE_TIME_S = 1.0
"""How long the pruner waits where what is due could not be announced, or was announced already."""


class BackgroundThreads:
    """Runs `follow`, `prune` and `flush`, each in a thread of its own, until it is stopped."""

    def __init__(
        self,
        view: LiveView,
        clock: Clock,
        max_sessions: int | None = None,
        owned: Callable[[], Container[int]] | None = None,
        health: DutyHealth | None = None,
    ) -> None:
        """`owned` says which partitions the pruner announces for; all, if it is not given."""
        self._owned = owned or (lambda: range(len(view.partitions)))
        self._view = view
        self._max_sessions = max_sessions
        self._clock = clock
        self._stop = threading.Event()
        self._prune_now = threading.Event()
        """Set when there is work before the pruner means to wake up, and when all is to stop."""
        self._flush_now = threading.Event()
        """Set when there is much to flush before the next flush is meant to be, and when all is to stop."""
        self._sleeping_until_ms: int | None = None
        self._is_pruning = False
        self._threads: list[threading.Thread] = []
        self.health = health or DutyHealth()
        """How each duty stands."""
        self.failures = self.health.failures

    def follow_touches(self, partition: Partition, _: TouchRun) -> None:
        """The same as `follow`: time has passed."""
        self.follow(partition, ())

    def follow(self, partition: Partition, _: Sequence[Outcome]) -> None:
        """Wake the pruner if there is work before it means to wake up (`follower.Projection`)."""
        if not self._is_pruning or self._prune_now.is_set() or partition.number not in self._owned():
            return
        next_ms = partition.deadlines.next_ms()
        is_sooner = next_ms is not None and (self._sleeping_until_ms is None or next_ms < self._sleeping_until_ms)
        if is_sooner or self._has_too_many():
            self._prune_now.set()

    def _has_too_many(self) -> bool:
        return self._max_sessions is not None and self._view.count() > self._max_sessions

    def wake_pruner(self) -> None:
        """Wake the pruner: what it has to do may be something else now."""
        self._prune_now.set()

    def request_flush(self) -> None:
        """Flush now: what waits for it takes much memory."""
        if not self._flush_now.is_set():
            self._flush_now.set()

    def take_flush_request(self) -> bool:
        """Whether a flush was requested since the last one began, or since this was asked: the caller flushes."""
        is_requested = self._flush_now.is_set()
        self._flush_now.clear()
        if self._stop.is_set():  # it is set at the end too
            self._flush_now.set()
        return is_requested

    def start(
        self,
        *,
        follow: Callable[[], object],
        flush: Callable[[], object],
        flush_every_s: float,
        prune: Callable[[], int] | None,
        publish: Callable[[], object] | None = None,
        follow_every_s: float = FOLLOW_EVERY_S,
    ) -> None:
        """Start the threads; `prune` returns how many sessions it announced."""
        self._start("follow", lambda: self._every(follow_every_s, "follow", follow))
        self._start("flush", lambda: self._every(flush_every_s, "flush", flush, self._flush_now))
        if publish is not None:
            self._start("publish", lambda: self._every(PUBLISH_EVERY_S, "publish", publish))
        if prune is not None:
            self._is_pruning = True
            self._start("prune", lambda: self._prune_when_due(prune))

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=f"lastseen-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _every(
        self, seconds: float, name: str, work: Callable[[], object], sooner: threading.Event | None = None
    ) -> None:
        while not self._stop.is_set():
            if name in self.failures:
                self._stop.wait(max(seconds, self.health.wait_s(name)))
            else:
                (sooner or self._stop).wait(seconds)
            if sooner is not None:
                sooner.clear()
            if not self._stop.is_set():
                self.health.attempt(name, work)

    def _prune_when_due(self, prune: Callable[[], int]) -> None:
        while not self._stop.is_set():
            try:
                self._wait_and_prune(prune)
            except Exception as error:
                # Whatever failed beside the pruning itself: looking for the next deadline, or the clock.
                self.health.failed("prune", error)
            self._stop.wait(self.health.wait_s("prune"))

    def _wait_and_prune(self, prune: Callable[[], int]) -> None:
        # Clear the event first, then look: what arrives in between sets it again.
        self._sleeping_until_ms = None
        self._prune_now.clear()
        if self._stop.is_set():
            return
        now_ms = self._clock.now_ms()
        next_ms = self._view.next_deadline(self._owned())
        self._sleeping_until_ms = next_ms
        if not self._has_too_many() and (next_ms is None or next_ms > now_ms):
            self.health.succeeded("prune")  # what is due was announced, or there is nothing
            until_ms = now_ms + LONGEST_SLEEP_MS if next_ms is None else next_ms
            self._clock.sleep_until(until_ms, self._prune_now, LONGEST_SLEEP_MS)
            return
        is_only_eviction = next_ms is None or next_ms > now_ms
        # What is too many in a moment's time is evicted with them: one append instead of one each.
        if is_only_eviction and self._stop.wait(EVICTION_DELAY_S):
            return
        announced = self.health.attempt("prune", prune)
        if announced == 0 and self._view.next_deadline(self._owned()) == next_ms:
            # What is due was announced already, or cannot be: give the fold time.
            self._stop.wait(GIVE_TIME_S)

    def goes_on(self) -> bool:
        """Whether the threads are to go on: what takes long asks between its steps."""
        return not self._stop.is_set()

    def _signal_stop(self) -> None:
        self._stop.set()
        self._prune_now.set()
        self._flush_now.set()

    def stop(self) -> None:
        """Stop the threads, and wait until they have stopped."""
        self._signal_stop()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

"""Renews the leases of all holds of an engine, or of a client, on one thread; on a few where renewals are slow.

The thread starts with the first hold and ends with the last. Time is read from the clock that is passed in.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from lastseen.engine.clock import Clock

_logger = logging.getLogger("lastseen")
_LONGEST_SLEEP_MS = 3_600_000
MOST_THREADS = 8
"""While a renewal waits for the log, others take their turn."""
FEW = 64
"""So many renewals that are no longer wanted are not worth dropping."""


class Lease:
    """One lease while it is renewed."""

    __slots__ = ("every_ms", "is_over", "renew", "turn")

    def __init__(self, renew: Callable[[], bool], every_ms: int) -> None:
        self.renew = renew
        """Renews it; whether it is to be renewed again."""
        self.every_ms = every_ms
        self.is_over = False
        self.turn = threading.Lock()
        """Held while it is renewed."""


class LeaseRenewer:
    """Renews leases until they are dropped. Safe to call from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._due: list[tuple[int, int, Lease]] = []
        """A heap: when each is to be renewed, and a number to break ties."""
        self._numbers = itertools.count()
        self._leases = 0
        self.threads = 0
        """How many threads renew at the moment."""
        self._is_watched = False
        """Whether a thread waits for the next renewal."""
        self._changed = threading.Event()

    def __len__(self) -> int:
        """How many leases are renewed."""
        return self._leases

    def add(self, renew: Callable[[], bool], every_ms: int) -> Lease:
        """Call `renew` every `every_ms`, until it returns `False`. Raises `RuntimeError` if no thread can start."""
        lease = Lease(renew, max(every_ms, 1))
        with self._lock:
            if not self.threads:
                self._start()
            self._leases += 1
            self._file(lease, self._clock.now_ms())
            self._changed.set()
        return lease

    def drop(self, lease: Lease) -> None:
        """Renew it no more. Returns when no renewal of it is in progress."""
        with lease.turn:
            self._end(lease)

    def _start(self) -> None:
        threading.Thread(target=self._run, name="lastseen-leases", daemon=True).start()
        self.threads += 1

    def _file(self, lease: Lease, begun_ms: int) -> None:
        heapq.heappush(self._due, (begun_ms + lease.every_ms, next(self._numbers), lease))

    def _end(self, lease: Lease) -> None:
        with self._lock:
            if lease.is_over:
                return
            lease.is_over = True
            self._leases -= 1
            if len(self._due) > 2 * self._leases + FEW:
                self._due = [each for each in self._due if not each[2].is_over]
                heapq.heapify(self._due)
            if not self._leases:
                self._changed.set()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            lease, begun_ms = due
            with lease.turn:
                if lease.is_over:
                    continue
                goes_on = True
                try:
                    goes_on = lease.renew()
                except Exception:
                    _logger.exception("a lease was not renewed, and is tried again")
            if goes_on:
                with self._lock:
                    self._file(lease, begun_ms)
            else:
                self._end(lease)

    def _next(self) -> tuple[Lease, int] | None:
        """The next lease to renew, and the time, when it is time; `None` if this thread is not needed any more."""
        while True:
            with self._lock:
                now_ms = self._clock.now_ms()
                if self._due and self._due[0][0] <= now_ms:
                    _, _, lease = heapq.heappop(self._due)
                    is_more = bool(self._due) and self._due[0][0] <= now_ms
                    if is_more and not self._is_watched and self.threads < MOST_THREADS:
                        with suppress(RuntimeError):  # it takes longer with fewer threads
                            self._start()
                    return lease, now_ms
                if self._is_watched or not self._leases:
                    self.threads -= 1
                    return None
                self._is_watched = True
                self._changed.clear()
                next_ms = self._due[0][0] if self._due else now_ms + _LONGEST_SLEEP_MS
            try:
                self._clock.sleep_until(next_ms, self._changed, _LONGEST_SLEEP_MS)
            finally:
                with self._lock:
                    self._is_watched = False

"""Taking events in: bounded, without waiting for the log, and accounted for to the last one.

Every accepted event is *settled* once: acknowledged, failed, or of unknown outcome. A flush closes an
*epoch* and waits until all events of it and of those before are settled.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

from lastseen.emitter.lanes import EVENT_OVERHEAD_BYTES, Entry
from lastseen.engine.errors import EmitterFull, EngineClosed, LogError, LogUnavailable, NotDelivered

MAX_ADDED_AT_ONCE = 1_000
_FAILURES = ("failed", "unknown")
_tuple = tuple.__new__


class Buffer(ABC):
    """Holds events until the log has them. Safe to call from many threads; its lock is never held for long."""

    def __init__(self, max_waiting_bytes: int, wait_timeout_s: float) -> None:
        """`wait_timeout_s` 0: what is too much is refused at once."""
        self._max_waiting_bytes = max_waiting_bytes
        self._wait_timeout_s = wait_timeout_s
        self._lock = threading.RLock()
        self._work, self._room = threading.Condition(self._lock), threading.Condition(self._lock)
        """The thread that sends waits for the one, callers for the other."""
        self._waiting_callers = 0
        """Those who wait."""
        self._incoming: list[Entry] = []
        self._waiting_bytes = 0
        self._epoch = 0
        self._unsettled = Counter[int]()
        """How many of each epoch."""
        self._counts = Counter[str]()
        self._reported = Counter[str]()
        """The failures that a flush has reported."""
        self._first_error: Exception | None = None
        """Of those that no flush has reported."""
        self._thread: threading.Thread | None = None
        """Sends accepted events."""
        self._is_idle = False
        """Whether that thread waits for work."""
        self._is_closed = False

    @abstractmethod
    def _wake(self) -> None:
        """See that the thread goes to work. With the lock held."""

    @abstractmethod
    def _settle_at_exit(self) -> None:
        """The main thread has ended. If this is the end of the program, nothing waits for the thread that sends: wait
        here until what was taken in is settled."""

    # ── taking in ──

    def add(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Accept events, keys and bytes. Raises `EmitterFull`, and `EngineClosed`."""
        now_s = time.monotonic()
        if len(events) <= MAX_ADDED_AT_ONCE or not self._wait_timeout_s:
            self._add(events, now_s, 0)
            return
        for start in range(0, len(events), MAX_ADDED_AT_ONCE):
            self._add(events[start : start + MAX_ADDED_AT_ONCE], now_s, start)

    def add_one(self, key: str, value: bytes) -> None:
        """The same for one event, at half the cost."""
        size = EVENT_OVERHEAD_BYTES + len(value) + (len(key) if key.isascii() else len(key.encode()))
        now_s = time.monotonic()
        with self._lock:
            if self._is_closed or (self._waiting_bytes and self._waiting_bytes + size > self._max_waiting_bytes):
                self._await_room(1, size, now_s + self._wait_timeout_s, 0)
            epoch = self._epoch
            self._incoming.append(_tuple(Entry, (key, value, size, now_s, epoch)))
            self._waiting_bytes += size
            self._unsettled[epoch] += 1
            self._counts["emitted"] += 1
            if self._is_idle or self._thread is None:
                self._start_work(1, size, epoch)
        if not threading.main_thread().is_alive():
            self._settle_at_exit()

    def _add(self, events: Sequence[tuple[str, bytes]], now_s: float, taken: int) -> None:
        sizes = [
            EVENT_OVERHEAD_BYTES + len(value) + (len(key) if key.isascii() else len(key.encode()))
            for key, value in events
        ]
        size = sum(sizes)
        with self._lock:
            if self._is_closed or (self._waiting_bytes and self._waiting_bytes + size > self._max_waiting_bytes):
                self._await_room(len(events), size, now_s + self._wait_timeout_s, taken)
            epoch = self._epoch
            self._incoming += [
                _tuple(Entry, (key, value, each, now_s, epoch))
                for (key, value), each in zip(events, sizes, strict=True)
            ]
            self._waiting_bytes += size
            self._unsettled[epoch] += len(events)
            self._counts["emitted"] += len(events)
            if self._is_idle or self._thread is None:
                self._start_work(len(events), size, epoch)
        if not threading.main_thread().is_alive():
            self._settle_at_exit()

    def _start_work(self, count: int, size: int, epoch: int) -> None:
        """See that what was just added is sent. Where no thread can be started for it, it is taken out again, as if it
        had never been added: the lock is held all the while."""
        try:
            self._wake()
        except RuntimeError as error:
            del self._incoming[-count:]
            self._waiting_bytes -= size
            self._unsettled -= Counter({epoch: count})
            self._counts["emitted"] -= count
            raise LogUnavailable(
                f"the thread that sends events cannot be started ({error}), and the event was not accepted. Emit before"
                " the program ends: Python 3.12.0 and 3.12.1 start no thread in a handler of atexit"
            ) from error

    def _await_room(self, count: int, size: int, until_s: float, taken: int) -> None:
        """With the lock held."""
        self._check_open()
        while self._waiting_bytes and self._waiting_bytes + size > self._max_waiting_bytes:
            left_s = until_s - time.monotonic()
            # The thread that makes room must not wait for it: `on_failure` may emit.
            if left_s <= 0 or not self._wait_timeout_s or threading.current_thread() is self._thread:
                self._counts["refused"] += count
                error = EmitterFull(
                    f"{self._waiting_bytes} bytes of events wait to be acknowledged, and the limit is"
                    f" {self._max_waiting_bytes}: emit more slowly, raise max_waiting_bytes, or check whether the log"
                    " is unavailable"
                )
                error.taken = taken
                raise error
            self._waiting_callers += 1
            self._room.wait(left_s)
            self._waiting_callers -= 1
            self._check_open()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed("the emitter has shut down: make a new one")

    # ── settling ──

    def _settle(self, entries: Sequence[Entry], kind: str, error: Exception | None = None) -> None:
        """Note the outcome of events: `acknowledged`, `failed` or `unknown`."""
        size = sum([entry.size for entry in entries])
        first, last = entries[0].epoch, entries[-1].epoch
        epochs = Counter({first: len(entries)}) if first == last else Counter(entry.epoch for entry in entries)
        with self._lock:
            self._first_error = self._first_error or error
            self._waiting_bytes -= size
            self._counts[kind] += len(entries)
            self._unsettled -= epochs  # which forgets those of which none is left
            if self._waiting_callers:
                self._room.notify_all()

    # ── telling ──

    def flush(self, timeout_s: float) -> None:
        """Wait until all events accepted before are in the log. Raises `NotDelivered`, and `EngineClosed`."""
        with self._lock:
            self._check_caller()
            self._check_open()
            reported, mark = self._reported, self._epoch
            self._epoch += 1
            self._waiting_callers += 1
            self._room.wait_for(lambda: not self._unsettled_until(mark), timeout_s)
            self._waiting_callers -= 1
            self._raise_undelivered(reported, self._unsettled_until(mark))

    def _check_caller(self) -> None:
        if threading.current_thread() is self._thread:
            raise LogError(
                "on_failure must neither flush nor shut down, since the emitter waits for it: do that in another thread"
            )

    def _unsettled_until(self, mark: int) -> int:
        return sum(count for epoch, count in self._unsettled.items() if epoch <= mark)

    def _raise_undelivered(self, reported: Counter[str], waiting: int) -> None:
        """Raise what there is to say of failures that were not `reported`, and of what waits. With the lock held."""
        failed, unknown = (self._counts[kind] - reported[kind] for kind in _FAILURES)
        if not (failed or unknown or waiting):
            return
        says = [f"{failed} are not in the log"] * bool(failed)
        says += [f"{unknown} may be in the log or not"] * bool(unknown)
        says += [f"{waiting} are still being sent (flush again)"] * bool(waiting)
        cause = self._first_error
        error = NotDelivered(
            f"of the events emitted since the last flush, {', '.join(says)}{'' if cause is None else f': {cause}'}"
        )
        error.failed, error.unknown, error.waiting = failed, unknown, waiting
        if not waiting:
            # A flush that ran out of time tells, and the next one tells again.
            self._reported = Counter({kind: self._counts[kind] for kind in _FAILURES})
            self._first_error = None
        raise error from cause

    def statistics(self) -> dict[str, int]:
        """Counters since the beginning, and what waits now."""
        with self._lock:
            names = ("emitted", "acknowledged", "failed", "unknown", "refused", "batches", "retries")
            counts = {name: self._counts[name] for name in names}
            return counts | {"waiting": self._unsettled.total(), "waiting_bytes": self._waiting_bytes}

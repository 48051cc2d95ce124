"""Getting events to a log: one thread sends accepted events in batches, and retries failed ones.

Theory of operation. The thread sorts what came into lanes (`lastseen.lanes`), gives each idle lane's batch to
`Log.append_soon`, and hears of the answers. Nothing waits for company: a batch is what has gathered while the one
before was in flight. A batch that failed is tried again until its events are too old; its lane waits, others do not.

The thread is no daemon, so that a program which ends without a word still sends what it has emitted: the thread sees
that the main thread is gone, and ends when all is sent, or `EXIT_TIMEOUT_S` is over. (Handlers of `atexit` come too
late for that: kafka-python's have run by then, and in a child of `multiprocessing` none are run.) What such a handler
itself emits comes when Python waits for no thread any more: the call that emits it waits until it is sent.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, cast

from lastseen.emitter.buffer import Buffer
from lastseen.emitter.lanes import Batch, Entry, Lane, Lanes
from lastseen.engine.codec import decode
from lastseen.engine.errors import (
    EngineClosed,
    InvalidInput,
    LastseenError,
    LogCorrupt,
    LogError,
    LogMismatch,
    LogTooNew,
    LogUnavailable,
    OutcomeUnknown,
    UnsupportedLibrary,
)
from lastseen.engine.events import SessionEvent
from lastseen.engine.log.port import Log

EXIT_TIMEOUT_S = 5.0
"""How long a program that has come to its end waits for events that are not sent yet."""
PAUSE_TIMEOUT_S = 5.0
LOOK_EVERY_S = 0.25
"""How often an idle thread looks whether the program has ended."""
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 2.0
MAX_IN_FLIGHT = 64
"""Batches that the log has at once: together they are less than it accepts."""
PERMANENT = (EngineClosed, InvalidInput, LogCorrupt, LogMismatch, LogTooNew, UnsupportedLibrary)
"""After these, trying again does not help."""
OnFailure = Callable[[SessionEvent, Exception], None]
_logger = logging.getLogger("lastseen")


class Delivery(Buffer):
    """Takes events in, and brings them to one log."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        max_waiting_bytes: int,
        wait_timeout_s: float,
        give_up_after_s: float,
        on_failure: OnFailure | None,
    ) -> None:
        super().__init__(max_waiting_bytes, wait_timeout_s)
        self._open_log = open_log
        self._give_up_after_s = give_up_after_s
        self._on_failure = on_failure
        self._is_busy = self._is_paused = self._is_ending = False
        self._answers: deque[tuple[Lane, Future[Any]]] = deque()
        # All else is the thread's own.
        self.log: Log | None = None
        self._open_at_s, self._open_failures = 0.0, 0
        self._unassigned: deque[Entry] = deque()
        self._lanes: Lanes | None = None
        self._ready: deque[Lane] = deque()
        """Lanes whose turn it is, if they have anything."""
        self._retrying: list[Lane] = []
        self._in_flight: dict[Lane, Batch] = {}
        self._exit_by_s: float | None = None

    def open(self) -> None:
        """Open the log at once, so that the caller gets its errors, which this raises."""
        self.log = self._open_log()

    def _wake(self) -> None:
        if self._is_idle:
            self._is_idle = False
            self._work.notify()
        elif self._thread is None:
            thread = _Thread(target=self._run, name="lastseen-emitter", daemon=False)
            thread.start()  # which may fail
            self._thread = thread

    def _settle_at_exit(self) -> None:
        if not _has_program_ended() or threading.current_thread() is self._thread:
            return
        with self._lock:
            self._waiting_callers += 1
            is_settled = self._room.wait_for(lambda: not self._unsettled, EXIT_TIMEOUT_S)
            self._waiting_callers -= 1
            left = self._unsettled.total()
        if not is_settled:
            _logger.warning(
                "an event was emitted as the program ended, and %s are not sent after %s s: they are lost, or of"
                " unknown outcome", left, EXIT_TIMEOUT_S,
            )  # fmt: skip

    # ── the thread ──

    def _run(self) -> None:
        try:
            while True:
                self._await_work()
                while self._answers:
                    self._handle_answer(*self._answers.popleft())
                if self._is_ending:
                    self._abandon(EngineClosed("the emitter was shut down before the event was sent"), closes_log=True)
                    return
                if _has_program_ended() and self._may_exit():
                    return
                now_s = time.monotonic()
                if self._is_busy and self._has_log(now_s):
                    self._assign_lanes()
                    self._send(now_s)
        except BaseException as error:  # a fault of ours: waiting callers must get it
            _logger.exception("the emitter's thread has failed, and its events are lost")
            self._is_closed = True
            self._abandon(OutcomeUnknown(f"the emitter's thread has failed: {error!r}"), closes_log=False)

    def _await_work(self) -> None:
        """Wait until there may be something to do."""
        with self._lock:
            self._is_busy = False
            if self._is_paused:
                self._room.notify_all()
            left_s = self._next_try_s() - time.monotonic()
            has_come = bool(self._incoming) and not self._is_paused
            if not (self._answers or self._is_ending or has_come or left_s <= 0):
                self._is_idle = True
                self._work.wait(min(left_s, LOOK_EVERY_S))
                self._is_idle = False
            if not self._is_paused:
                self._is_busy = True
                self._unassigned.extend(self._incoming)
                self._incoming = []

    def _next_try_s(self) -> float:
        """When there is something to do without an event that says so."""
        if self._is_paused:
            return math.inf
        if self.log is None:
            return self._open_at_s if self._unassigned or self._ready or self._retrying else math.inf
        if self._ready and len(self._in_flight) < MAX_IN_FLIGHT:
            return 0.0
        return min((lane.retry_at_s for lane in self._retrying), default=math.inf)

    def _may_exit(self) -> bool:
        """Whether the thread ends, now that the program has: all is sent, or there is no more time."""
        with self._lock:
            if self._is_paused:
                return False
            left = self._unsettled.total()
            self._exit_by_s = self._exit_by_s or time.monotonic() + EXIT_TIMEOUT_S
            if left and time.monotonic() < self._exit_by_s:
                return False
            log = None
            if not left:
                # A caller that still emits, in an `atexit` handler say, starts another thread, which opens it again.
                log, self.log, self._thread, self._exit_by_s = self.log, None, None, None
        if left:
            _logger.warning(
                "the program has ended, and %s events could not be sent within %s s: they are lost, or of unknown"
                " outcome; flush or shut the emitter down before the end to learn the outcome in time",
                left, EXIT_TIMEOUT_S,
            )  # fmt: skip
            self._abandon(LogUnavailable("the program ended before the event was sent"), closes_log=False)
            with self._lock:
                self._thread, self._exit_by_s = None, None
        elif log is not None:
            log.close()
        return True

    # ── sending ──

    def _has_log(self, now_s: float) -> bool:
        """Whether the log is open; it is tried to open it if it is time."""
        if self.log is not None:
            return True
        if now_s < self._open_at_s or self._next_try_s() == math.inf:
            return False
        try:
            log = self._open_log()
            if self._lanes is not None and log.partitions != self._lanes.partitions:
                log.close()
                raise LogMismatch(f"the log has {log.partitions} partitions now, and had {self._lanes.partitions}")
        except Exception as error:
            self._open_failures += 1
            self._open_at_s = time.monotonic() + retry_delay_s(self._open_failures)
            is_permanent = isinstance(error, PERMANENT)
            self._give_up_unsent(math.inf if is_permanent else now_s - self._give_up_after_s, error)
            return False
        self.log, self._open_failures = log, 0
        return True

    def _give_up_unsent(self, than_s: float, error: Exception) -> None:
        """Fail the events accepted before that, while there is no log and so no batch in flight."""
        dropped = []
        while self._unassigned and self._unassigned[0].added_s <= than_s:
            dropped.append(self._unassigned.popleft())
        self._fail(dropped, error, is_doubtful=False)
        for lane in (*self._ready, *self._retrying):
            self._give_up_old(lane, than_s, error)

    def _assign_lanes(self) -> None:
        assert self.log is not None, "called only if there is one"
        if self._lanes is None:
            self._lanes = Lanes(self.log.partitions)
        lane_of = self._lanes.of
        for entry in self._unassigned:
            lane = lane_of(entry.key)
            lane.entries.append(entry)
            if not lane.is_ready:
                lane.is_ready = True
                self._ready.append(lane)
        self._unassigned.clear()

    def _send(self, now_s: float) -> None:
        assert self.log is not None, "called only if there is one"
        if self._retrying:
            self._ready.extend(lane for lane in self._retrying if lane.retry_at_s <= now_s)
            self._retrying = [lane for lane in self._retrying if lane.retry_at_s > now_s]
        while self._ready and len(self._in_flight) < MAX_IN_FLIGHT:
            lane = self._ready.popleft()
            self._give_up_old(lane, now_s - self._give_up_after_s, None)
            batch = lane.next_batch()
            if batch is None:
                lane.is_ready = False
                continue
            batch.attempts += 1
            self._in_flight[lane] = batch
            try:
                future = self.log.append_soon(batch.messages)
            except Exception as error:
                self._handle_failure(lane, error, is_doubtful=not isinstance(error, LastseenError))
            else:
                future.add_done_callback(partial(self._queue_answer, lane))

    def _give_up_old(self, lane: Lane, than_s: float, error: Exception | None) -> None:
        batch = lane.batch
        while dropped := lane.drop_older(than_s):
            why = (batch and batch.error) or error or LogUnavailable("it was not sent in time: the log is too slow")
            self._fail(dropped, why, is_doubtful=batch is not None and batch.is_doubtful)
            batch = lane.batch

    # ── outcomes ──

    def _queue_answer(self, lane: Lane, future: Future[Any]) -> None:
        """On a thread of the log's."""
        self._answers.append((lane, future))
        with self._lock:
            if self._is_idle:
                self._work.notify()

    def _handle_answer(self, lane: Lane, future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            batch = self._in_flight.pop(lane, None)
            if batch is not None:
                lane.batch = None
                self._counts["batches"] += 1
                self._ready.append(lane)
                self._settle(batch.entries, "acknowledged")
        else:
            is_known = isinstance(error, LogUnavailable | InvalidInput)
            self._handle_failure(lane, error if isinstance(error, Exception) else LogError(repr(error)), not is_known)

    def _handle_failure(self, lane: Lane, error: Exception, is_doubtful: bool) -> None:
        batch = self._in_flight.pop(lane, None)
        if batch is None:
            return  # given up long ago
        batch.error = error
        batch.is_doubtful |= is_doubtful
        if isinstance(error, InvalidInput) and len(batch.entries) > 1:
            lane.halve()
            self._ready.appendleft(lane)
        elif isinstance(error, PERMANENT) or self._is_ending:
            lane.batch = None
            self._ready.append(lane)
            self._fail(batch.entries, error, batch.is_doubtful)
        else:
            self._counts["retries"] += 1
            lane.retry_at_s = time.monotonic() + retry_delay_s(batch.attempts)
            self._retrying.append(lane)

    def _fail(self, entries: Sequence[Entry], error: Exception, is_doubtful: bool) -> None:
        if not entries:
            return
        if self._on_failure is not None:
            for entry in entries:
                event, _ = cast("tuple[SessionEvent, int]", decode(entry.key, entry.value))
                try:
                    self._on_failure(event, error)
                except Exception:
                    _logger.exception("on_failure has failed")
        self._settle(entries, "unknown" if is_doubtful else "failed", error)

    # ── the end ──

    def shutdown(self, timeout_s: float) -> None:
        """Send what there is, and release the log. Raises `NotDelivered`."""
        with self._lock:
            self._check_caller()
            if self._is_closed:
                return
            self._is_closed = True
            reported = self._reported
            self._room.notify_all()
            self._waiting_callers += 1
            self._room.wait_for(lambda: not self._unsettled, timeout_s)
            self._waiting_callers -= 1
            self._is_ending = True
            thread, log = self._thread, self.log
            self._work.notify()
        if thread is not None:
            thread.join()
        elif log is not None:
            log.close()
        with self._lock:
            self._raise_undelivered(reported, 0)

    def _abandon(self, error: Exception, *, closes_log: bool) -> None:
        """Fail every event that is not in flight, and those in flight that the log, closing, has not answered."""
        with self._lock:
            self._unassigned.extend(self._incoming)
            self._incoming = []
        self._fail(list(self._unassigned), error, is_doubtful=False)
        self._unassigned.clear()
        lanes = [lane for each in (self._lanes.all if self._lanes else ()) for lane in each]
        for lane in lanes:
            if lane not in self._in_flight:
                self._give_up_old(lane, math.inf, error)
            self._fail(lane.empty(), error, is_doubtful=False)
        if closes_log and self.log is not None:
            self.log.close()
            while self._answers:
                self._handle_answer(*self._answers.popleft())
        for lane, batch in list(self._in_flight.items()):
            del self._in_flight[lane]
            lane.batch = None
            self._fail(
                batch.entries, OutcomeUnknown("the log did not report the outcome of the event"), is_doubtful=True
            )
        self._lanes = None
        self._ready.clear()
        self._retrying.clear()

    # ── around a fork ──

    def pause(self) -> None:
        """Release the log until `resume`: an SQLite file must not be open in a process that forks."""
        with self._lock:
            if threading.current_thread() is self._thread:
                return
            self._is_paused = True
            is_quiet = self._room.wait_for(lambda: not self._is_busy and not self._in_flight, PAUSE_TIMEOUT_S)
            log, self.log = (self.log, None) if is_quiet else (None, self.log)
        if log is not None:
            log.close()
        elif not is_quiet:
            _logger.warning("this process is forked while events are written: its child must not use the same file")

    def resume(self) -> None:
        """Go on after `pause`."""
        with self._lock:
            self._is_paused = False
            self._work.notify()


class _Thread(threading.Thread):
    """A thread of ours: unlike others that are no daemons, it does not mean that the program goes on."""


def retry_delay_s(failures: int) -> float:
    """How long to wait before another attempt after so many."""
    return float(min(FIRST_RETRY_S * 2 ** min(failures - 1, 10), LAST_RETRY_S))


def _has_program_ended() -> bool:
    main = threading.main_thread()
    return not main.is_alive() and not any(
        not thread.daemon and thread is not main and not isinstance(thread, _Thread) for thread in threading.enumerate()
    )

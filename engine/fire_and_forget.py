"""Plain touches whose callers do not wait for the log: accepted at once, and appended many at a time.

Theory of operation. The first touch goes to the log by itself. Those that arrive while an append is
running wait here. The log's thread that completes the append hands it all of them together: so a lone touch is not
delayed, and each of many costs a fraction. Every other append goes after the touches that wait here (`send`), so the
log has everything in the order of the calls. There is no thread and no timer here.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from lastseen.engine import own_events
from lastseen.engine.clock import Clock, iso_from_ms
from lastseen.engine.errors import LastseenError, LogUnavailable, shown
from lastseen.engine.identifiers import new_event_ids
from lastseen.engine.log.port import Log, Message, Position

MAX_WAITING = 20_000
"""Touches that wait for the log at a time; a caller with one more waits for room."""
PATIENCE_S = 5.0
"""How long a caller waits for room before the log counts as unavailable."""
BATCH = 1_000
"""Touches in one append."""
_Touch = tuple[int, str, str]
"""Partition, key and session id."""
_tuple = tuple.__new__
"""Makes a named tuple in half the time that its class takes."""
_logger = logging.getLogger("lastseen")


class FireAndForget:
    """The touches of one engine that are made with `wait="none"`. Safe to call from many threads."""

    def __init__(self, log: Log, source: str, clock: Clock) -> None:
        self._log = log
        self._source = source
        self._clock = clock
        # Deques, since adding and taking one is a single step to other threads: the common way needs no lock.
        self._waiting: deque[_Touch] = deque()
        self._in_flight: deque[None] = deque()
        """One for each append that the log has not answered yet."""
        self._sending = threading.Lock()
        """Held while touches go from here to the log, so that they keep their order."""
        self._room = threading.Condition()
        self._at_gate = 0

    def add(self, partition: int, key: str, session_id: str) -> None:
        """Accept a touch that the view allows.

        Raises the log's error if it refuses the touch, and `LogUnavailable` if it has accepted none for some time.
        """
        waiting = self._waiting
        if len(waiting) >= MAX_WAITING:
            self._await_room(key)
        waiting.append((partition, key, session_id))
        # First add, then look; `_sent` looks first. So one of the two sends it.
        if not self._in_flight:
            refusal = self._send_unless_sending()
            if refusal is not None:
                raise refusal

    def send(self) -> None:
        """Hand the log all that waits now: what is appended next comes after it."""
        if self._waiting or self._sending.locked():
            with self._sending:
                self._send_all()
            self._send_unless_sending()

    def _send_unless_sending(self) -> LastseenError | None:
        """Hand the log what waits, unless it is at work; returns why it has not taken all, if so."""
        refusal = None
        # If the lock is taken, leave: its holder looks again here, or has an append in flight that does.
        while self._waiting and not self._in_flight and self._sending.acquire(blocking=False):
            try:
                refusal = self._send_all() or refusal
            finally:
                self._sending.release()
        return refusal

    def _send_all(self) -> LastseenError | None:
        """Hand the log all that waits; returns why it has not taken all, if so. The caller holds `_sending`.

        What is refused is not kept for later: it would count as activity at a time when there was none.
        """
        waiting, refusal = self._waiting, None
        while waiting:
            touches = [waiting.popleft() for _ in range(min(len(waiting), BATCH))]
            self._in_flight.append(None)
            try:
                appended = self._log.append_soon(self._messages(touches))
            except LastseenError as error:
                self._in_flight.pop()
                _report(error)
                refusal = error
            else:
                appended.add_done_callback(self._sent)
            if self._at_gate:
                with self._room:
                    self._room.notify_all()
        return refusal

    def _messages(self, touches: Sequence[_Touch]) -> list[Message]:
        now_ms, source = self._clock.now_ms(), self._source
        time = iso_from_ms(now_ms)
        messages = []
        for event_id, (partition, key, session_id) in zip(new_event_ids(now_ms, len(touches)), touches, strict=True):
            value = own_events.touch(event_id, source, key, time, now_ms, session_id)
            messages.append(_tuple(Message, (partition, key, value)))
        return messages

    def _sent(self, appended: Future[list[Position]]) -> None:
        self._in_flight.pop()
        error = appended.exception()
        if error is not None:
            _report(error)
        if self._waiting:
            self._send_unless_sending()

    def _await_room(self, key: str) -> None:
        with self._room:
            self._at_gate += 1
            has_room = self._room.wait_for(lambda: len(self._waiting) < MAX_WAITING, PATIENCE_S)
            self._at_gate -= 1
        if not has_room:
            raise LogUnavailable(
                f"session key {shown(key)}: {MAX_WAITING} touches wait for the log, which has accepted none for"
                f" {PATIENCE_S:g} s; this one was not written. Find out what blocks the log, and try again"
            )


def _report(error: BaseException) -> None:
    _logger.warning("touches with wait='none' were not logged: %s", error)

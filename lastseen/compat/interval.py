"""Work at an interval of a clock, in a thread: what `setInterval` was to the predecessors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from lastseen.engine.clock import Clock
from lastseen.engine.errors import EngineClosed, LastseenError

_logger = logging.getLogger("lastseen")
LONGEST_SLEEP_MS = 60_000
"""After so long it looks whether the clock was turned back."""


class Interval:
    """Calls `work` each time `every_ms` have passed, first after one interval, until it is stopped.

    An error of lastseen is logged and does not end it. Where the clock has jumped over several intervals, the work is
    done once.
    """

    def __init__(self, clock: Clock, every_ms: int, work: Callable[[], object], name: str) -> None:
        self._clock = clock
        self._every_ms = every_ms
        self._work = work
        self._stop = threading.Event()
        self._next_ms = clock.now_ms() + every_ms
        self._thread = threading.Thread(target=self._run, name=f"lastseen-{name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            now_ms = self._clock.now_ms()
            if now_ms < self._next_ms - self._every_ms:
                # The clock was turned back: wait one interval from here, not for the old time to come again.
                self._next_ms = now_ms + self._every_ms
            if now_ms < self._next_ms:
                self._clock.sleep_until(self._next_ms, self._stop, LONGEST_SLEEP_MS)
                continue
            self._next_ms = now_ms + self._every_ms
            try:
                self._work()
            except EngineClosed:
                return
            except LastseenError as error:
                _logger.warning("%s failed and is retried in %s ms: %s", self._thread.name, self._every_ms, error)

    def stop(self) -> None:
        """No more calls from now on; waits for one in progress. May be called again, and by the work itself."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

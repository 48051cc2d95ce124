"""A deadline for shutdown: a stopping service does not wait without limit for a log that does not answer.

Handing over partitions and publishing the last facts need the log. If it is unavailable, its client tries for a
minute or more. Nothing depends on that: what was acknowledged is in the log, the next owner publishes the remaining
facts, and a start after a sudden exit is a start like any other. So at the deadline the process exits.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from lastseen.service.signals import StopSignals

SECOND_SIGNAL_S = 5.0
"""How long shutdown may take after the second signal."""
EXIT_CODE = 4
"""As for any command while the log is unavailable."""
_POLL_INTERVAL_S = 0.1
_logger = logging.getLogger("lastseen.service")


class ExitDeadline:
    """Exits the process if shutdown takes too long."""

    def __init__(self, stop: StopSignals, timeout_s: float, end: Callable[[int], object] = os._exit) -> None:
        self._stop = stop
        self._timeout_s = timeout_s
        self._end = end
        self._thread: threading.Thread | None = None
        self._is_cancelled = threading.Event()

    def start(self) -> None:
        """From now on the end may take so long. May be called again."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="lastseen-last-resort", daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """It has ended in time."""
        self._is_cancelled.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        is_shortened = False
        while not self._is_cancelled.wait(_POLL_INTERVAL_S):
            if self._stop.count > 1 and not is_shortened:
                is_shortened = True
                deadline_s = min(deadline_s, time.monotonic() + SECOND_SIGNAL_S)
            if time.monotonic() >= deadline_s:
                _logger.warning(
                    "ended without the log's response: nothing acknowledged is lost, the next owner continues"
                )
                self._end(EXIT_CODE)
                return

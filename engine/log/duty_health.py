"""How the duties of an engine stand: one place where every background thread reports its failures.

A duty is work that a thread repeats: following the log, flushing, pruning, publishing, membership in the group. Any
exception ends one attempt and never the thread. It is counted and logged, the duty is reported as failing until it
succeeds again, and the next attempt waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from lastseen.engine.errors import LastseenError, LogUnavailable

RETRY_S = 1.0
"""The wait before the second attempt, and before each further one while the log is unavailable."""
MOST_RETRY_S = 30.0
"""The longest wait: it doubles with each failure of any other kind."""
_logger = logging.getLogger("lastseen")
T = TypeVar("T")


class DutyHealth:
    """The failures of each duty. Safe to call from many threads; a duty itself belongs to one."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._in_a_row: dict[str, int] = {}
        self._again_s: dict[str, float] = {}
        self.failures: dict[str, LastseenError] = {}
        """The last error of each duty that has not succeeded since."""
        self.counts: Counter[str] = Counter()
        """How many attempts of each duty have failed."""

    def attempt(self, duty: str, work: Callable[[], T]) -> T | None:
        """Do the work of a duty once: what it returns, or `None` after a failure, which is recorded."""
        try:
            done = work()
        except Exception as error:
            self.failed(duty, error)
            return None
        self.succeeded(duty)
        return done

    def failed(self, duty: str, error: Exception) -> None:
        """Record a failure. One unlike the last is logged, with its traceback where it was not expected."""
        typed = error if isinstance(error, LastseenError) else _unexpected(duty, error)
        before = self.failures.get(duty)
        if before is None or _kind(before) != _kind(typed):  # before it shows elsewhere
            _logger.warning(
                "%s failed and is tried again: %s", duty, error, exc_info=error if typed is not error else None
            )
        with self._lock:
            self.failures[duty] = typed
            self.counts[duty] += 1
            in_a_row = self._in_a_row[duty] = self._in_a_row.get(duty, 0) + 1
            doublings = 0 if isinstance(typed, LogUnavailable) else min(in_a_row - 1, 10)
            self._again_s[duty] = self._monotonic_s() + min(RETRY_S * 2**doublings, MOST_RETRY_S)

    def succeeded(self, duty: str) -> None:
        """Record that a duty works."""
        if duty not in self.failures:
            return
        with self._lock:
            self.failures.pop(duty, None)
            self._in_a_row.pop(duty, None)
            self._again_s.pop(duty, None)
        _logger.info("%s works again", duty)

    def wait_s(self, duty: str) -> float:
        """How long the next attempt of a duty has to wait; 0 unless its last one failed."""
        again_s = self._again_s.get(duty)
        return 0.0 if again_s is None else max(again_s - self._monotonic_s(), 0.0)


def _kind(error: LastseenError) -> object:
    """What makes a failure another one: figures in the words of a typed error do not."""
    return (type(error), None if error.__cause__ is None else repr(error.__cause__))


def _unexpected(duty: str, error: Exception) -> LastseenError:
    """The typed error for one that was not expected."""
    typed = LastseenError(
        f"{duty} failed: {error!r}; the engine retries it; please report it with the lines of the log"
    )
    typed.__cause__ = error
    return typed

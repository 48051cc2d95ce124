"""The signals to stop: SIGTERM, SIGINT and SIGHUP, once or repeatedly.

A handler takes no lock: it runs in the main thread between any two steps of it, so a lock that it wants may be held by
the very code that it has interrupted. It counts, and sets flags.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGTERM", "SIGINT", "SIGHUP")
SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
"""Those of them that this system has: Windows knows no SIGHUP."""


class Stopped(BaseException):
    """A signal arrived while the process was starting. No request depends on it yet, so it exits."""


class StopSignals:
    """Counts the signals to stop."""

    def __init__(self) -> None:
        self.count = 0
        self._is_starting = False
        self._listeners: list[Callable[[int], None]] = []

    def on_signal(self, listener: Callable[[int], None]) -> None:
        """Call `listener`, in the signal's handler, with how often it has been; at once, if it has been already."""
        self._listeners.append(listener)
        if self.count:
            listener(self.count)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count the signals meanwhile, instead of ending at the first."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Meanwhile a signal interrupts what is going on, with `Stopped`: a start may wait long for a log."""
        self._is_starting = True
        try:
            if self.count:
                raise Stopped
            yield
        finally:
            self._is_starting = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        for listener in self._listeners:
            listener(self.count)
        if self._is_starting:
            raise Stopped

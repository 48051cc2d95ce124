"""How many requests to let in while the service has more to do than it can.

With as many in progress as there are places, each waits for all the others. A burst may: it is soon over. A load that
stays may not, since then every request would wait that long, and no more would be done. What distinguishes them is how
late the event loop is at what it has to do, and how long commands wait for a thread. Where that has been too long for a
while, fewer requests are let in; where it is not any more, more are, step by step. An event loop that only waits for a
slow log is not late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

LATE_S, CALM_S = 0.004, 0.002
"""When the event loop is too late on average, and when it is not any more."""
LATE_THREAD_S, CALM_THREAD_S = 0.010, 0.005
"""The same of waiting for a thread."""
MIN_FRACTION, MIN_SLOTS = 8, 16
"""This part of the places is always there, or so many: the threads that commands run in are kept busy."""
WEIGHT = 0.2
"""Of the newest figure in an average."""
SUSTAINED_S = 0.05
"""What lasts so long is no burst."""
SAMPLE_INTERVAL_S = 0.005
"""Between two looks at the event loop, while there is anything to look for."""


class Lateness:
    """How late something is, on average over the last times, and whether that is too late."""

    def __init__(self, late_s: float, calm_s: float) -> None:
        """Too late from `late_s` on, and until it is less than `calm_s`."""
        self._late_s, self._calm_s = late_s, calm_s
        self._average_s = 0.0
        self._is_fresh = False
        self.is_late = False

    def record(self, waited_s: float) -> None:
        """Record how long something waited."""
        self._average_s += WEIGHT * (waited_s - self._average_s)
        self._is_fresh = True
        self.is_late = self._average_s > (self._calm_s if self.is_late else self._late_s)

    def tick(self) -> None:
        """Called at intervals: if nothing was recorded since the last call, nothing is late."""
        if not self._is_fresh:
            self.record(0.0)
        self._is_fresh = False


class AdaptiveLimit:
    """From how late things are, how many requests may be in progress. For the thread of one event loop."""

    def __init__(self, slots: int) -> None:
        """At most `places`."""
        self._slots = slots
        self.minimum = min(slots, max(MIN_SLOTS, slots // MIN_FRACTION))
        self._step = max(slots // 16, 1)
        self.limit = slots
        self.loop = Lateness(LATE_S, CALM_S)
        self.threads = Lateness(LATE_THREAD_S, CALM_THREAD_S)
        self._was_late = False
        self._since_s = 0.0
        """Since when it has been as it is now, or when the limit was last changed for it."""

    @property
    def is_unrestricted(self) -> bool:
        """Whether nothing is held back, nor about to be."""
        return self.limit == self._slots and not self._was_late

    def observe(self, late_s: float, now_s: float) -> None:
        """The event loop did at `now_s` what it was to do `late_s` before."""
        self.loop.record(late_s)
        self.threads.tick()
        is_late = self.loop.is_late or self.threads.is_late
        if is_late != self._was_late:
            self._was_late, self._since_s = is_late, now_s
        elif now_s - self._since_s >= SUSTAINED_S:
            self._since_s = now_s
            self.limit = self.minimum if is_late else min(self.limit + self._step, self._slots)


current_limit: ContextVar[AdaptiveLimit | None] = ContextVar("current_limit", default=None)
"""The limit that learns how long the current request waits for a thread."""


class LoopMonitor:
    """Tells a pace how late the event loop is, for as long as that matters."""

    def __init__(self, limit: AdaptiveLimit, is_needed: Callable[[], bool]) -> None:
        self._limit = limit
        self._is_needed = is_needed
        self._is_on = False

    def start(self) -> None:
        """Look from now on. To be called in the event loop; costs nothing where it looks already."""
        if not self._is_on:
            self._is_on = True
            self._next(asyncio.get_running_loop())

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        due_s = loop.time() + SAMPLE_INTERVAL_S
        loop.call_at(due_s, self._sample, loop, due_s)

    def _sample(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        now_s = loop.time()
        self._limit.observe(now_s - due_s, now_s)
        if self._is_needed():
            self._next(loop)
        else:
            self._is_on = False

"""Durations, counted in classes: what a histogram is drawn from. Adding one costs a tenth of a microsecond."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns

APPEND_BOUNDS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)
FLUSH_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REQUEST_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Durations:
    """How long something took, each time. Two threads that add in the same instant may be counted as one."""

    __slots__ = ("_bounds_ns", "bounds_s", "counts", "total_ns")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        """`bounds_s` are the upper bounds of the classes, in seconds, ascending; what is longer has a class too."""
        self.bounds_s = tuple(bounds_s)
        self._bounds_ns = [round(bound * 1e9) for bound in bounds_s]
        self.counts = [0] * (len(self.bounds_s) + 1)
        """How many fell into each class, the last being all that took longer."""
        self.total_ns = 0

    def add(self, elapsed_ns: int) -> None:
        """Count one that took `elapsed_ns` nanoseconds."""
        self.counts[bisect_left(self._bounds_ns, elapsed_ns)] += 1
        self.total_ns += elapsed_ns

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count how long the block takes, unless it raises."""
        began_ns = perf_counter_ns()
        yield
        self.add(perf_counter_ns() - began_ns)

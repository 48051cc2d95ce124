"""Durations, counted in classes that double: what a histogram is drawn from, at a twentieth of a microsecond each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter_ns

SHORTEST, LONGEST = 15, 35
"""The classes that a histogram shows, as powers of two in nanoseconds: from 33 µs to 34 s."""
_CLASSES = 64


class Durations:
    """How long something took, each time. Two threads that add in the same instant may be counted as one."""

    __slots__ = ("counts", "total_ns")

    def __init__(self) -> None:
        self.counts = [0] * _CLASSES
        """By the number of binary digits of the nanoseconds; more than a century has no class."""
        self.total_ns = 0

    def add(self, elapsed_ns: int) -> None:
        """Count one that took `elapsed_ns` nanoseconds."""
        self.counts[elapsed_ns.bit_length()] += 1
        self.total_ns += elapsed_ns

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count how long the block takes, unless it raises."""
        began_ns = perf_counter_ns()
        yield
        self.add(perf_counter_ns() - began_ns)

    def buckets(self, shortest: int = SHORTEST, step: int = 1) -> list[tuple[str, int]]:
        """Upper bounds in seconds, and how many took at most so long; the last bound is `+Inf`.

        The first bound is `shortest`, a power of two in nanoseconds, and each is `step` doublings beyond the last.
        """
        counts = list(self.counts)
        rows = [(str(2**power / 1e9), sum(counts[: power + 1])) for power in range(shortest, LONGEST + 1, step)]
        return [*rows, ("+Inf", sum(counts))]

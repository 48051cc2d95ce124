"""A heap whose entries may become stale: no operation costs more than a logarithm, and stale entries do not pile up.

A heap cannot give up an entry in its midst. Entries that no longer mean anything are skipped when they come up; where
they are the most by far, they are dropped a few at a time, with each push. Sweeping them out at once would, at a
million entries, hold the lock of the caller for half a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry", bound="tuple[Any, ...]")
FEW = 1_024
"""So many entries are not worth sweeping."""
SWEPT_AT_A_TIME = 4


class LazyHeap(Generic[Entry]):
    """Entries, smallest first; `is_current` says which of them still mean something."""

    def __init__(self, is_current: Callable[[Entry], bool]) -> None:
        self._is_current = is_current
        self._heap: list[Entry] = []
        self._old: list[Entry] = []
        """What is being swept: a heap too, from the end of which entries go to the other, or nowhere."""
        self._sweep_at = FEW

    def __len__(self) -> int:
        """How many entries it keeps, stale ones included."""
        return len(self._heap) + len(self._old)

    def push(self, entry: Entry) -> None:
        """Add an entry."""
        heapq.heappush(self._heap, entry)
        if self._old:
            self._sweep()
        elif len(self._heap) > self._sweep_at:
            self._old, self._heap = self._heap, []

    def _sweep(self) -> None:
        old = self._old
        for _ in range(min(SWEPT_AT_A_TIME, len(old))):
            entry = old.pop()  # what is left of a heap without its end is a heap
            if self._is_current(entry):
                heapq.heappush(self._heap, entry)
        if not old:
            self._sweep_at = 2 * len(self._heap) + FEW

    def entries(self) -> list[Entry]:
        """All entries, in no order, stale ones included."""
        return [*self._heap, *self._old]

    def first(self) -> Entry | None:
        """The smallest entry, stale or not; `None` if there is none."""
        heaps = [heap for heap in (self._heap, self._old) if heap]
        return min(heap[0] for heap in heaps) if heaps else None

    def pop(self) -> Entry:
        """Remove the smallest entry, stale or not. Raises `IndexError` if there is none."""
        if self._old and (not self._heap or self._old[0] < self._heap[0]):
            return heapq.heappop(self._old)
        return heapq.heappop(self._heap)

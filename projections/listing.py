"""The order of a listing, kept between its pages, so that a page costs its sessions and not those before and after it.

The first page copies the sessions in steps, and sorts them in short runs: sorting them all would stop every thread for
as long as it takes. Each page finds its place in each run, and merges from there what it needs. The order is that of
the moment of the first page: a session that is used between two pages is neither seen twice nor missed. What is kept is
bounded, in sessions and in time; where it is gone (after a restart, or on another instance), the next page makes the
order again, as of then, and continues at the cursor.
"""

from __future__ import annotations

import heapq
import secrets
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter, itemgetter
from threading import Lock
from typing import Literal

from lastseen.engine.session import Session
from lastseen.projections.page_cursor import Place
from lastseen.projections.partition import Partition

Sort = Literal["lru", "deadline", "created"]
SORTS: tuple[Sort, ...] = ("lru", "deadline", "created")
RUN = 4_096
"""Sessions sorted at a time."""
MAX_KEPT = 2_000_000
"""Sessions in all listings that are kept: 24 bytes each."""
MAX_LISTINGS = 64
KEPT_MS = 60_000
"""How long a listing is kept for its next page."""
_NEVER_MS = 2**62
"""Sorts after every deadline."""


class _Run:
    """Some sessions of one partition, sorted. What they are sorted by is kept, since it changes in the sessions."""

    __slots__ = ("ats", "number", "sessions", "ties")

    def __init__(self, number: int, rows: Sequence[tuple[int, int, int]], sessions: Sequence[Session]) -> None:
        self.number = number
        self.ats = array("q", [at for at, _, _ in rows])
        self.ties = array("q", [tie for _, tie, _ in rows])
        self.sessions = [sessions[index] for _, _, index in rows]

    def after(self, place: Place | None) -> Iterator[tuple[Place, Session]]:
        """The sessions beyond a place."""
        start = 0 if place is None else self._index_after(place)
        for index in range(start, len(self.sessions)):
            yield Place(self.ats[index], self.number, self.ties[index]), self.sessions[index]

    def _index_after(self, place: Place) -> int:
        first, end = bisect_left(self.ats, place.at), bisect_right(self.ats, place.at)
        if self.number != place.partition:
            return end if self.number < place.partition else first
        return bisect_right(self.ties, place.tie, first, end)


class Listing:
    """The order in which sessions stood at one moment."""

    def __init__(
        self, sessions: Iterable[tuple[Partition, list[Session]]], sort: Sort, partitions: Sequence[Partition]
    ) -> None:
        """`sessions` come in steps, those of a partition one after the other."""
        self.partitions = tuple(partitions)
        """The partitions that it covers."""
        self._runs: list[_Run] = []
        self.size = 0
        waiting: list[Session] = []
        number: int | None = None
        for partition, step in sessions:
            if number is not None and (number != partition.number or len(waiting) >= RUN):
                self._add(number, waiting, sort)
                waiting = []
            number = partition.number
            waiting += step
        if number is not None:
            self._add(number, waiting, sort)

    def _add(self, number: int, sessions: Sequence[Session], sort: Sort) -> None:
        at, tie = _SORTED_BY[sort]
        rows = [(at(session), tie(session), index) for index, session in enumerate(sessions)]
        rows.sort()
        self._runs.append(_Run(number, rows, sessions))
        self.size += len(rows)

    def after(self, place: Place | None) -> Iterator[tuple[Place, Session]]:
        """The sessions beyond a place, in order. They may have ended."""
        return heapq.merge(*[run.after(place) for run in self._runs], key=itemgetter(0))


class Listings:
    """The listings that are kept for their next pages. Safe to call from many threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[Listing, int]] = OrderedDict()
        """Each with the time of its last page, least recently used first."""
        self._size = 0

    def keep(self, listing: Listing, now_ms: int) -> str:
        """Keep a listing; returns its name."""
        name = secrets.token_hex(8)
        with self._lock:
            self._kept[name] = listing, now_ms
            self._size += listing.size
            while len(self._kept) > 1 and (self._size > MAX_KEPT or len(self._kept) > MAX_LISTINGS):
                self._drop(next(iter(self._kept)))
        return name

    def find(self, name: str, partitions: Sequence[Partition], now_ms: int) -> Listing | None:
        """The listing of this name, if it is kept and is of these very partitions."""
        with self._lock:
            listing, _ = self._kept.get(name, (None, 0))
            if listing is None:
                return None
            if listing.partitions != tuple(partitions):
                self._drop(name)
                return None
            self._kept[name] = listing, now_ms
            self._kept.move_to_end(name)
            return listing

    def drop_old(self, now_ms: int) -> None:
        """Drop those that were not used for a while, and with them the sessions that have ended since."""
        with self._lock:
            for name, (_, used_ms) in list(self._kept.items()):
                if abs(now_ms - used_ms) >= KEPT_MS:
                    self._drop(name)

    def __len__(self) -> int:
        return len(self._kept)

    def _drop(self, name: str) -> None:
        self._size -= self._kept.pop(name)[0].size


_SORTED_BY: dict[Sort, tuple[Callable[[Session], int], Callable[[Session], int]]] = {
    # Used in the same millisecond: the order in which the pruner takes them.
    "lru": (attrgetter("last_active_at_ms"), attrgetter("last_active_offset")),
    "deadline": (lambda session: session.deadline_ms() or _NEVER_MS, attrgetter("born_offset")),
    "created": (attrgetter("created_at_ms"), attrgetter("born_offset")),
}

"""When each session must be looked at next: a timer wheel that a touch never has to visit.

A session is filed once, under a time at or before its deadline, in a bucket that is the coarser the further off the
deadline is. A touch moves the deadline only later, so it leaves the filing alone; when the bucket's time comes, a
session whose deadline has moved is filed again. Every session is thus looked at a few times per idle limit, however
often it is touched, and waiting costs nothing. Buckets of the last second go through a heap, so that due sessions come
out exact to the millisecond and soonest first. (After the hierarchical timing wheels of Varghese and Lauck, SOSP 1987.)
Where most of what is filed has ended, it is swept out, a little with each filing: closed sessions do not stay in memory
until their deadlines, and no call takes long.

Time is passed in; no clock is read.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from lastseen.engine.session import Session
from lastseen.projections.lazy_heap import LazyHeap

WIDTHS_MS = (1 << 10, 1 << 16, 1 << 22, 1 << 27)
"""Bucket widths: about 1 s, 66 s, 70 min and 37 h. A bucket is never wider than its distance from the present."""
FEW_FILINGS = 65_536
"""So many are not worth sweeping."""
SWEPT_AT_A_TIME = 4
"""Filings that are looked at with each new one while there are too many."""


Filing = tuple[int, int, Session]
"""When it is due, the offset of its birth to break ties, and the session."""


class Deadlines:
    """The sessions of one partition by the time at which they must be looked at."""

    def __init__(self, is_live: Callable[[Session], bool]) -> None:
        self._is_live = is_live
        self._buckets: dict[int, list[Session]] = {}
        self._starts: list[int] = []
        self._imminent: LazyHeap[Filing] = LazyHeap(self._is_current)
        self._reported: list[Filing] = []
        """What `due` gave out last: most of it has ended by the next look, and need not go through the heap again."""
        self._in_buckets = 0
        self._sweep_at = FEW_FILINGS
        self._is_sweeping = False
        self._to_sweep: list[int] = []
        """The starts of the buckets that are still to be swept."""
        self._swept_start = 0
        """The start of the bucket that is being swept, from its end to its beginning."""
        self._sweep_index = 0
        """Its filings from here on have been looked at."""
        self._kept: set[int] = set()
        """By `id`, the sessions that were found in it: one may be filed in it twice."""

    def __len__(self) -> int:
        """How many filings it keeps, those of ended sessions included."""
        return self._in_buckets + len(self._imminent) + len(self._reported)

    def _is_current(self, filing: Filing) -> bool:
        return filing[2].wake_ms == filing[0] and self._is_live(filing[2])

    def file(self, session: Session, now_ms: int) -> None:
        """Have the session looked at by its deadline. Costs nothing if that is so already."""
        due_ms = session.deadline_ms()
        if due_ms is None:
            session.wake_ms = None
        elif session.wake_ms is None or due_ms < session.wake_ms:
            self._put(session, due_ms, now_ms)
            if self._is_sweeping:
                self._sweep(SWEPT_AT_A_TIME)
            elif self._in_buckets > self._sweep_at:
                self._begin_sweep()

    def _put(self, session: Session, due_ms: int, now_ms: int) -> None:
        distance_ms = due_ms - now_ms
        width_ms = WIDTHS_MS[0]
        for wider_ms in WIDTHS_MS[1:]:
            if distance_ms < wider_ms:
                break
            width_ms = wider_ms
        start_ms = due_ms & -width_ms
        bucket = self._buckets.get(start_ms)
        self._in_buckets += 1
        if bucket is None:
            self._buckets[start_ms] = [session]
            heapq.heappush(self._starts, start_ms)
            session.wake_ms = start_ms
        else:
            # All sessions of a bucket share one integer: at a million sessions that is 32 MB.
            session.wake_ms = bucket[0].wake_ms if bucket and bucket[0].wake_ms == start_ms else start_ms
            bucket.append(session)

    def due(self, now_ms: int, limit: int) -> list[Session]:
        """At most `limit` sessions that are due at `now_ms`, soonest first. Costs what is due, not what is live.

        They are reported again until they have ended.
        """
        self._take_back()
        self.open(now_ms)
        found = self._reported
        imminent = self._imminent
        while len(found) < limit and (first := imminent.first()) is not None and first[0] <= now_ms:
            filing = imminent.pop()
            if not self._is_current(filing):
                continue
            filed_ms, _, session = filing
            due_ms = session.deadline_ms()
            if due_ms == filed_ms:
                # One that was filed sooner and then again as before has two filings of the same time, side by side.
                if not found or found[-1][2] is not session:
                    found.append(filing)
                continue
            session.wake_ms = None
            if due_ms is not None:
                # It was touched since: others may be due before it.
                self._file_again(session, due_ms, now_ms)
        return [session for _, _, session in found]

    def _take_back(self) -> None:
        """Put what was reported and has not ended in its place again."""
        for filing in self._reported:
            if self._is_live(filing[2]):
                self._imminent.push(filing)
        self._reported = []

    def all_due(self, now_ms: int) -> list[Session]:
        """All sessions that may be due at `now_ms`, in no order, each at least once; some are not. Moves nothing.

        What is in buckets whose time has come must have been opened before.
        """
        return [filing[2] for filing in (*self._reported, *self._imminent.entries()) if filing[0] <= now_ms]

    def _file_again(self, session: Session, due_ms: int, now_ms: int) -> None:
        if due_ms - now_ms < WIDTHS_MS[0]:
            self._put_imminent(session, due_ms)
        else:
            self._put(session, due_ms, now_ms)

    def _put_imminent(self, session: Session, due_ms: int) -> None:
        session.wake_ms = due_ms
        self._imminent.push((due_ms, session.born_offset, session))

    def open(self, now_ms: int, limit: int | None = None) -> bool:
        """Move what is in buckets whose time has come to the heap, or back where a later deadline belongs.

        Looks at `limit` filings at the most; whether that was all there is to look at. `due` does what is left.
        """
        starts = self._starts
        while starts and starts[0] <= now_ms:
            start_ms = starts[0]
            bucket = self._buckets[start_ms]
            if limit == 0 and bucket:
                return False
            opened = bucket if limit is None else bucket[-limit:]
            if len(opened) == len(bucket):
                heapq.heappop(starts)
                del self._buckets[start_ms]
            else:
                del bucket[-len(opened) :]
            self._in_buckets -= len(opened)
            for session in opened:
                if session.wake_ms != start_ms or not self._is_live(session):
                    continue
                due_ms = session.deadline_ms()
                session.wake_ms = None
                if due_ms is not None:
                    self._file_again(session, due_ms, now_ms)
            if limit is not None:
                limit -= len(opened)
        return True

    def _begin_sweep(self) -> None:
        self._is_sweeping, self._to_sweep, self._sweep_index = True, list(self._buckets), 0

    def _sweep(self, looks: int) -> None:
        """Look at some filings, and drop those of sessions that have ended, or were filed again."""
        for _ in range(looks):
            # Meanwhile the bucket's time may have come: then its end is gone, or all of it.
            bucket = self._buckets.get(self._swept_start, [])
            self._sweep_index = index = min(self._sweep_index, len(bucket)) - 1
            if index < 0:
                if not self._to_sweep:
                    self._is_sweeping, self._kept = False, set()
                    self._sweep_at = 2 * self._in_buckets + FEW_FILINGS
                    return
                self._swept_start, self._kept = self._to_sweep.pop(), set()
                self._sweep_index = len(self._buckets.get(self._swept_start, ()))
                continue
            session = bucket[index]
            if session.wake_ms == self._swept_start and id(session) not in self._kept and self._is_live(session):
                self._kept.add(id(session))
            else:
                bucket[index] = bucket[-1]  # which was looked at before, or is new
                bucket.pop()
                self._in_buckets -= 1

    def next_ms(self) -> int | None:
        """A time before which nothing is due: at most about a second, then a minute, … early. `None`: nothing ever."""
        self._take_back()
        first = self._imminent.first()
        first_due = None if first is None else first[0]
        first_start = self._starts[0] if self._starts else None
        if first_due is None or first_start is None:
            return first_start if first_due is None else first_due
        return min(first_due, first_start)

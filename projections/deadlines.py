"""When each session must be looked at next: a timer wheel that a touch never has to visit.

A session is filed once, under a time at or before its deadline, in a bucket that is the coarser the further off the
deadline is. A touch moves the deadline only later, so it leaves the filing alone; when the bucket's time comes, a
session whose deadline has moved is filed again. Every session is thus looked at a few times per idle limit, however
often it is touched, and waiting costs nothing. Buckets of the last second go through a heap, so that due sessions come
out exact to the millisecond and soonest first. (After the hierarchical timing wheels of Varghese and Lauck, SOSP 1987.)
Where most of what is filed has ended, it is swept out: closed sessions do not stay in memory until their deadlines.

Time is passed in; no clock is read.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from lastseen.engine.session import Session

WIDTHS_MS = (1 << 10, 1 << 16, 1 << 22, 1 << 27)
"""Bucket widths: about 1 s, 66 s, 70 min and 37 h. A bucket is never wider than its distance from the present."""
FEW_FILINGS = 65_536
"""So many are not worth sweeping."""


Filing = tuple[int, int, Session]
"""When it is due, the offset of its birth to break ties, and the session."""


class Deadlines:
    """The sessions of one partition by the time at which they must be looked at."""

    def __init__(self, is_live: Callable[[Session], bool]) -> None:
        self._is_live = is_live
        self._buckets: dict[int, list[Session]] = {}
        self._starts: list[int] = []
        self._imminent: list[Filing] = []
        self._reported: list[Filing] = []
        """What `due` gave out last: most of it has ended by the next look, and need not go through the heap again."""
        self._filings = 0
        self._sweep_at = FEW_FILINGS

    def __len__(self) -> int:
        """How many filings it keeps, those of ended sessions included."""
        return self._filings + len(self._reported)

    def file(self, session: Session, now_ms: int) -> None:
        """Have the session looked at by its deadline. Costs nothing if that is so already."""
        due_ms = session.deadline_ms()
        if due_ms is None:
            session.wake_ms = None
        elif session.wake_ms is None or due_ms < session.wake_ms:
            self._put(session, due_ms, now_ms)
            if self._filings > self._sweep_at:
                self._sweep()

    def _put(self, session: Session, due_ms: int, now_ms: int) -> None:
        distance_ms = due_ms - now_ms
        width_ms = WIDTHS_MS[0]
        for wider_ms in WIDTHS_MS[1:]:
            if distance_ms < wider_ms:
                break
            width_ms = wider_ms
        start_ms = due_ms & -width_ms
        bucket = self._buckets.get(start_ms)
        self._filings += 1
        if bucket is None:
            self._buckets[start_ms] = [session]
            heapq.heappush(self._starts, start_ms)
            session.wake_ms = start_ms
        else:
            # All sessions of a bucket share one integer: at a million sessions that is 32 MB.
            session.wake_ms = bucket[0].wake_ms if bucket[0].wake_ms == start_ms else start_ms
            bucket.append(session)

    def due(self, now_ms: int, limit: int) -> list[Session]:
        """At most `limit` sessions that are due at `now_ms`, soonest first. Costs what is due, not what is live.

        They are reported again until they have ended.
        """
        self._take_back()
        self.open(now_ms)
        found = self._reported
        imminent = self._imminent
        while imminent and imminent[0][0] <= now_ms and len(found) < limit:
            filing = heapq.heappop(imminent)
            self._filings -= 1
            filed_ms, _, session = filing
            if session.wake_ms != filed_ms or not self._is_live(session):
                continue
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
                self._filings += 1
                heapq.heappush(self._imminent, filing)
        self._reported = []

    def _file_again(self, session: Session, due_ms: int, now_ms: int) -> None:
        if due_ms - now_ms < WIDTHS_MS[0]:
            self._put_imminent(session, due_ms)
        else:
            self._put(session, due_ms, now_ms)

    def _put_imminent(self, session: Session, due_ms: int) -> None:
        session.wake_ms = due_ms
        self._filings += 1
        heapq.heappush(self._imminent, (due_ms, session.born_offset, session))

    def open(self, now_ms: int, limit: int | None = None) -> bool:
        """Move what is in buckets whose time has come to the heap, or back where a later deadline belongs.

        Looks at `limit` filings at the most; whether that was all there is to look at. `due` does what is left.
        """
        starts = self._starts
        while starts and starts[0] <= now_ms:
            if limit == 0:
                return False
            start_ms = starts[0]
            bucket = self._buckets[start_ms]
            opened = bucket if limit is None else bucket[-limit:]
            if len(opened) == len(bucket):
                heapq.heappop(starts)
                del self._buckets[start_ms]
            else:
                del bucket[-len(opened) :]
            self._filings -= len(opened)
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

    def _sweep(self) -> None:
        """Drop sessions that have ended or were filed again. Costs less than the filings that led to it."""
        self._take_back()
        buckets = self._buckets
        for start_ms, bucket in list(buckets.items()):
            kept = {id(s): s for s in bucket if s.wake_ms == start_ms and self._is_live(s)}
            if kept:
                buckets[start_ms] = list(kept.values())
            else:
                del buckets[start_ms]
        self._starts = sorted(buckets)  # A sorted list is a heap, and so is the next.
        imminent = {id(f[2]): f for f in self._imminent if f[2].wake_ms == f[0] and self._is_live(f[2])}
        self._imminent = sorted(imminent.values())
        self._filings = len(self._imminent) + sum(map(len, buckets.values()))
        self._sweep_at = 2 * self._filings + FEW_FILINGS

    def next_ms(self) -> int | None:
        """A time before which nothing is due: at most about a second, then a minute, … early. `None`: nothing ever."""
        self._take_back()
        first_due = self._imminent[0][0] if self._imminent else None
        first_start = self._starts[0] if self._starts else None
        if first_due is None or first_start is None:
            return first_start if first_due is None else first_due
        return min(first_due, first_start)

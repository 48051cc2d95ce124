"""Held sessions that the pruner has passed: out of the way of its next pass, and back as soon as they may be evicted.

The LRU order of a partition is a dictionary in the order of use. Held sessions are not evicted, so those that are not
used gather at its old end, and a pass would go past all of them again and again: at 45,000, for 0.2 s each second. So a
pass sets aside each held session that it passes, once. A session that is used goes back into the order; one whose last
lease is released, or lapses, is *free*: those come next, least recently used first, without a look at the others.

None of this is part of the fold's state: it says where a session is kept, not what it is. Time is passed in.
"""

from __future__ import annotations

from itertools import islice

from lastseen.engine.session import Session
from lastseen.projections.lazy_heap import LazyHeap
from lastseen.projections.lru_order import LruOrder
from lastseen.projections.shards import Shards

Filing = tuple[int, int, Session]
"""What it is sorted by (a log time, or an offset), the offset of its last use to break ties, and the session."""


class SetAside:
    """The sessions of one partition that were held when a pass came to them."""

    def __init__(self) -> None:
        self.sessions: Shards[Session] = Shards()
        """By key."""
        self._filings: Shards[Filing] = Shards()
        """By key, the filing that counts; older ones of the same session are stale."""
        self._held: LazyHeap[Filing] = LazyHeap(self._is_current)
        """By the log time at which the last lease lapses."""
        self._free: LazyHeap[Filing] = LazyHeap(self._is_current)
        """By the offset of the last use."""

    def __len__(self) -> int:
        return len(self.sessions)

    def _is_current(self, filing: Filing) -> bool:
        return self._filings.get(filing[2].key) is filing

    def pass_by(self, active: LruOrder, at_ms: int, count: int, limit: int) -> tuple[int, bool]:
        """Move held sessions out of `active`, from its old end to the `count`-th that is not held.

        Moves `limit` of them, and looks at `count` + `limit` sessions, at the most. Returns how many were moved, and
        whether that was all.
        """
        held, left, looked_at = [], count, 0
        for session in islice(active.values(), count + limit) if count else ():
            looked_at += 1
            if session.leases is not None and session.held_at(at_ms):
                held.append(session)
                if len(held) == limit:
                    break
                continue
            left -= 1
            if not left:
                break
        is_all = not left or looked_at == len(active)
        for session in held:
            del active[session.key]
            self.sessions[session.key] = session
            self._file(session)
        return len(held), is_all

    def _file(self, session: Session) -> None:
        if session.leases:
            filing = self._filings[session.key] = (max(session.leases.values()), session.last_active_offset, session)
            self._held.push(filing)
        else:
            self._file_as_free(session)

    def _file_as_free(self, session: Session) -> None:
        filing = self._filings[session.key] = (session.last_active_offset, 0, session)
        self._free.push(filing)

    def refile(self, session: Session) -> None:
        """Take note that the leases of a session have changed, if it is here."""
        if session.key in self.sessions:
            self._file(session)

    def drop(self, key: str) -> Session | None:
        """Give up the session under a key: it was used, was suspended, or has ended. `None` if it is not here."""
        session = self.sessions.pop(key, None)
        if session is not None:
            del self._filings[key]
        return session

    def open(self, at_ms: int, limit: int) -> bool:
        """File those as free whose last lease has lapsed at `at_ms`; whether that was all of at most `limit` looks."""
        for _ in range(limit):
            filing = self._held.first()
            if filing is None or filing[0] > at_ms:
                return True
            self._held.pop()
            if self._is_current(filing):
                self._file_as_free(filing[2])
        return False

    def free(self, at_ms: int, limit: int) -> list[Session]:
        """At most `limit` sessions without a live lease at `at_ms`, least recently used first; they stay here."""
        found: list[Filing] = []
        while len(found) < limit and self._free.first() is not None:
            filing = self._free.pop()
            if not self._is_current(filing):
                continue
            if filing[2].held_at(at_ms):
                self._file(filing[2])  # the clock was set back
            else:
                found.append(filing)
        for filing in found:
            self._free.push(filing)
        return [session for _, _, session in found]

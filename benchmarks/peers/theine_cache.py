"""`theine`: W-TinyLFU in Rust under a Python cache."""

from __future__ import annotations

from datetime import timedelta

import theine

from benchmarks.peers.port import IDLE_S, Cache, Kept, now

IDLE = timedelta(seconds=IDLE_S)


class TheineCache(Cache):
    """Sessions in `theine.Cache`, without its locks, as for one thread. A touch is a look-up and an assignment.

    It admits by frequency: a new session may be turned away while less recently used ones stay.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.cache: theine.Cache[str, Kept] = theine.Cache(most, nolock=True)

    def create(self, key: str) -> None:
        """Assign it."""
        self.cache.set(key, Kept(now()), IDLE)

    def touch(self, key: str) -> None:
        """Assign it again, if it is still there."""
        session, is_there = self.cache.get(key)
        if is_there:
            self.cache.set(key, session, IDLE)

    def read(self, key: str) -> Kept | None:
        """Look it up, which counts as use."""
        session, is_there = self.cache.get(key)
        return session if is_there else self.suspended.get(key)

    def suspend(self, key: str) -> None:
        """Put it aside."""
        session, is_there = self.cache.get(key)
        if is_there:
            self.cache.delete(key)
            self.suspended[key] = session

    def resume(self, key: str) -> None:
        """Take it back."""
        if (session := self.suspended.pop(key, None)) is not None:
            self.cache.set(key, session, IDLE)

    def close(self, key: str) -> None:
        """Drop it."""
        if not self.cache.delete(key):
            self.suspended.pop(key, None)

    def live(self) -> int:
        """How many there are."""
        return len(self.cache) + len(self.suspended)

"""`cachetools`: TTLCache, and TLRUCache with the same limit for every session."""

from __future__ import annotations

from typing import Any

import cachetools

from benchmarks.peers.port import IDLE_S, Cache, Kept, now


class TimedCache(Cache):
    """Sessions in one of the caches of `cachetools` that let go by time and by use.

    A touch is a look-up, which moves the session in the order of use, and an assignment, which renews its time.
    """

    def __init__(self, cache: Any) -> None:
        super().__init__()
        self.cache = cache

    def create(self, key: str) -> None:
        """Assign it."""
        self.cache[key] = Kept(now())

    def touch(self, key: str) -> None:
        """Assign it again, if it is still there."""
        if (session := self.cache.get(key)) is not None:
            self.cache[key] = session

    def read(self, key: str) -> Kept | None:
        """Look it up, which counts as use: it has no other way."""
        return self.cache.get(key) or self.suspended.get(key)

    def suspend(self, key: str) -> None:
        """Put it aside."""
        if (session := self.cache.pop(key, None)) is not None:
            self.suspended[key] = session

    def resume(self, key: str) -> None:
        """Take it back."""
        if (session := self.suspended.pop(key, None)) is not None:
            self.cache[key] = session

    def close(self, key: str) -> None:
        """Drop it."""
        if self.cache.pop(key, None) is None:
            self.suspended.pop(key, None)

    def live(self) -> int:
        """How many there are."""
        return len(self.cache) + len(self.suspended)


def ttl_cache(most: int) -> TimedCache:
    """`TTLCache`: entries in order of use and in order of time."""
    return TimedCache(cachetools.TTLCache(most, IDLE_S))


def tlru_cache(most: int) -> TimedCache:
    """`TLRUCache`: a time for each entry, kept in a heap."""
    return TimedCache(cachetools.TLRUCache(most, lambda key, session, at: at + IDLE_S))

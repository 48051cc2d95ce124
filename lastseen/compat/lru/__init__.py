"""In the place of an LRU session memory: `from lastseen.compat.lru import LruSessions`."""

from lastseen.compat.lru.lru import LruSessions

__all__ = ["LruSessions"]

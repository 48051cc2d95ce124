"""Sessions in a cache that outlives the process: redis with its append-only file, and diskcache.

A touch gives the entry its whole time to live again. Neither knows a log of what happened, nor who was ended and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.durable_drive import CALLERS, EACH, SECOND, Subject, Touch, driven, in_batches
from benchmarks.durable_tables import BODY
from benchmarks.servers import RedisServer, redis_server

if TYPE_CHECKING:
    import redis

IDLE_TTL_S = 1_800


class RedisSessions:
    """Sessions as keys that expire, by one connection to the server's Unix socket (quicker than TCP)."""

    def __init__(self, server: RedisServer) -> None:
        import redis

        self.client: redis.Redis = redis.Redis(unix_socket_path=server.unix_socket, single_connection_client=True)

    def fill(self, keys: Sequence[str]) -> None:
        """So many sessions, each due in half an hour."""
        for start in range(0, len(keys), 1_000):
            with self.client.pipeline(transaction=False) as pipeline:
                for key in keys[start : start + 1_000]:
                    pipeline.set(key, BODY, ex=IDLE_TTL_S)
                pipeline.execute()

    def touch(self, key: str) -> Any:
        """The session, with its time to live restarted: one command, one round trip. `LookupError` where there is
        none."""
        found = self.client.getex(key, ex=IDLE_TTL_S)
        if found is None:
            raise LookupError(key)
        return found

    def touch_many(self, keys: Sequence[str]) -> list[Any]:
        """The same for many, by one pipeline. Raises `LookupError` if one is not there."""
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.getex(key, ex=IDLE_TTL_S)
            found: list[Any] = pipeline.execute()
        if None in found:
            raise LookupError(keys[found.index(None)])
        return found


@contextmanager
def redis_always(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """redis with `appendfsync always`: an answer is given when the command is on the disk."""
    yield from _redis(folder, keys, "always", "redis-py, AOF always", EACH)


@contextmanager
def redis_everysec(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """redis with `appendfsync everysec`, its usual setting."""
    yield from _redis(folder, keys, "everysec", "redis-py, AOF everysec", SECOND)


def _redis(folder: Path, keys: Sequence[str], appendonly: str, name: str, loses: str) -> Iterator[list[Subject]]:
    with redis_server(folder, appendonly=appendonly) as server, ExitStack() as stack:
        first = RedisSessions(server)
        stack.callback(first.client.close)
        first.fill(keys)
        touches: list[Touch] = []
        for _ in range(CALLERS):
            sessions = RedisSessions(server)
            stack.callback(sessions.client.close)
            touches.append(sessions.touch)
        yield [
            driven(
                name,
                loses,
                keys,
                first.touch,
                touches,
                first.touch_many,
                "GETEX, with hiredis, by its Unix socket; 64 connections; pipelines of 100",
            ),
            Subject(
                f"{name}, pipelines of 64",
                loses,
                None,
                in_batches(first.touch_many, keys, CALLERS),
                None,
                "no callers: one that has 64 touches ready",
            ),
        ]


class DiskCacheSessions:
    """Sessions in diskcache, each commit flushed; it neither evicts nor culls."""

    def __init__(self, folder: Path, shards: int = 1) -> None:
        import diskcache

        flushed = {"sqlite_synchronous": 2, "eviction_policy": "none", "cull_limit": 0, "size_limit": 2**34}
        self.cache: Any = (
            diskcache.FanoutCache(str(folder), shards=shards, timeout=60, **flushed)
            if shards > 1
            else diskcache.Cache(str(folder), timeout=60, **flushed)
        )

    def fill(self, keys: Sequence[str]) -> None:
        """So many sessions, each due in half an hour."""
        with self.cache.transact():
            for key in keys:
                self.cache.set(key, BODY, expire=IDLE_TTL_S)

    def touch(self, key: str) -> None:
        """Restart its time to live. Raises `LookupError` where there is none."""
        if not self.cache.touch(key, expire=IDLE_TTL_S, retry=True):
            raise LookupError(key)

    def touch_many(self, keys: Sequence[str]) -> None:
        """The same for many, in one transaction."""
        with self.cache.transact():
            for key in keys:
                self.touch(key)


@contextmanager
def disk_cache(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """diskcache with every commit flushed; for 64 callers its FanoutCache, which spreads them over 8 files."""
    whole, fanned = DiskCacheSessions(folder / "cache"), DiskCacheSessions(folder / "fanout", shards=8)
    with closing(whole.cache), closing(fanned.cache):
        whole.fill(keys)
        fanned.fill(keys)
        yield [
            driven(
                "diskcache",
                EACH,
                keys,
                whole.touch,
                [fanned.touch] * CALLERS,
                whole.touch_many,
                "touch(); SQLite WAL and FULL; 64 callers on a FanoutCache of 8 shards",
            )
        ]

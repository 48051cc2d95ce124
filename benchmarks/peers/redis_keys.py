"""redis-server, by redis-py with hiredis over its Unix socket: a key for each session, which expires when idle."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from benchmarks.mix import Operation
from benchmarks.peers.port import IDLE_S
from benchmarks.servers import redis_server

FILLED_AT_A_TIME = 5_000
ROOM_BYTES, ROOM_SHARE = 256 * 1024, 100
"""Memory beyond what the sessions take, for buffers of the connection: so much, or one part of so many."""


class RedisKeys:
    """Sessions as keys of a redis-server. A touch is one EXPIRE, the least that keeps a session alive."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client

    def create(self, key: str) -> object:
        """SET, if there is none, with its time."""
        return self.client.set(key, value(), nx=True, ex=IDLE_S)

    def touch(self, key: str) -> object:
        """EXPIRE."""
        return self.client.expire(key, IDLE_S)

    def read(self, key: str) -> object:
        """GET, which counts as use."""
        return self.client.get(key)

    def suspend(self, key: str) -> object:
        """PERSIST: no time concerns it; `allkeys-lru` may drop it all the same."""
        return self.client.persist(key)

    def resume(self, key: str) -> object:
        """EXPIRE again."""
        return self.client.expire(key, IDLE_S)

    def close(self, key: str) -> object:
        """DEL."""
        return self.client.delete(key)

    def batch(self, operations: Sequence[Operation]) -> object:
        """One pipeline, without MULTI."""
        pipeline = RedisKeys(self.client.pipeline(transaction=False))
        for kind, key in operations:
            getattr(pipeline, kind)(key)
        return pipeline.client.execute()

    def settle(self) -> None:
        """Every call was answered."""

    def rest(self) -> None:
        """Its background work is its own."""

    def live(self) -> int:
        """DBSIZE."""
        return int(self.client.dbsize())

    def memory_bytes(self) -> int:
        """INFO memory: what its allocator has handed out."""
        return int(self.client.info("memory")["used_memory"])


def value() -> bytes:
    """What it keeps of a session; when it was last active is in its time to live."""
    return json.dumps({"session_id": secrets.token_urlsafe(16), "created_at_ms": time.time_ns() // 1_000_000}).encode()


@contextmanager
def filled_redis(folder: Path, keys: Sequence[str], most: int) -> Iterator[RedisKeys]:
    """A redis-server of its own with these sessions. As it cannot count, its memory limit is what they take and little
    more, and soon each new one drops another, by `allkeys-lru`. Raises `PeerMissing`."""
    with redis_server(folder, maxmemory="16gb") as server:
        client = redis.Redis(unix_socket_path=server.unix_socket, single_connection_client=True)
        with client:
            sessions = RedisKeys(client)
            for start in range(0, len(keys), FILLED_AT_A_TIME):
                sessions.batch([Operation("create", key) for key in keys[start : start + FILLED_AT_A_TIME]])
            if most <= len(keys):
                taken = sessions.memory_bytes()
                client.config_set("maxmemory", taken + max(ROOM_BYTES, taken // ROOM_SHARE))
            yield sessions

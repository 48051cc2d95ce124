"""What a restart is measured beside: redis that loads its file, and a dictionary in a file as Python loads it."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.answering import answered_by
from benchmarks.durable_tables import BODY
from benchmarks.servers import redis_server
from benchmarks.workload import key_of

IDLE_TTL_S = 86_400


def plain_sessions(sessions: int) -> dict[str, dict[str, Any]]:
    """What one keeps of so many sessions, as plain values."""
    now_ms = time.time_ns() // 1_000_000
    return {
        key_of(number): {
            "session_id": f"{number:022d}", "status": "active", "version": 1, "created_at_ms": now_ms + number,
            "last_active_at_ms": now_ms + number, "idle_ttl_ms": IDLE_TTL_S * 1_000,
        }
        for number in range(sessions)
    }  # fmt: skip


def floors(folder: Path, sessions: int) -> dict[str, Callable[[], float]]:
    """A dictionary of so many sessions, loaded from a file of pickle, and from one of JSON."""
    kept = plain_sessions(sessions)
    key = key_of(sessions - 1)
    (folder / "sessions.pickle").write_bytes(pickle.dumps(kept, pickle.HIGHEST_PROTOCOL))
    (folder / "sessions.json").write_text(json.dumps(kept), "utf-8")
    return {
        "pickle of a dictionary": lambda: loaded(folder / "sessions.pickle", "pickle", key, sessions),
        "JSON of a dictionary": lambda: loaded(folder / "sessions.json", "json", key, sessions),
    }


def loaded(file: Path, how: str, key: str, sessions: int) -> float:
    """Seconds until a new process has a session out of a file."""
    script = (
        f"import sys, time; import {how}; started = time.perf_counter();"
        f"file = open(sys.argv[1], 'rb'); sessions = {how}.load(file); session = sessions[sys.argv[2]];"
        "spent = time.perf_counter() - started; assert len(sessions) == int(sys.argv[3]); print(spent)"
    )
    return answered_by(script, str(file), key, str(sessions))


def redis_loads(folder: Path, sessions: int) -> dict[str, Callable[[], float]]:
    """redis with so many keys that expire, started on its RDB file, and on its append-only file. May raise
    `PeerMissing`."""
    by_commands, by_snapshot = folder / "redis-aof", folder / "redis-rdb"
    _fill(by_commands, sessions)
    by_snapshot.mkdir()
    shutil.move(by_commands / "dump.rdb", by_snapshot / "dump.rdb")
    return {
        "redis, RDB": lambda: started(by_snapshot, None, sessions),
        "redis, AOF": lambda: started(by_commands, "everysec", sessions),
    }


def _fill(folder: Path, sessions: int) -> None:
    import redis

    with redis_server(folder, appendonly="everysec") as server:
        client: Any = redis.Redis(unix_socket_path=server.unix_socket)
        with closing(client):
            # As it grows, it would be rewritten into an RDB file, which is the other row.
            client.config_set("auto-aof-rewrite-percentage", 0)
            for start in range(0, sessions, 5_000):
                with client.pipeline(transaction=False) as pipeline:
                    for number in range(start, min(start + 5_000, sessions)):
                        pipeline.set(key_of(number), BODY, ex=IDLE_TTL_S)
                    pipeline.execute()
            client.save()


def started(folder: Path, appendonly: str | None, sessions: int) -> float:
    """Seconds until a server has loaded its file and answered."""
    import redis

    began = time.perf_counter()
    with redis_server(folder, appendonly=appendonly) as server:
        client: Any = redis.Redis(unix_socket_path=server.unix_socket)
        with closing(client):
            found = client.get(key_of(sessions - 1))
            spent = time.perf_counter() - began
            assert found is not None
            assert client.dbsize() == sessions
    return spent

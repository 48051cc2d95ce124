"""What the peers with libraries of their own really are and do: reported as JSON, for tests in the other
environment."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import diskcache

from benchmarks.durable_caches import DiskCacheSessions, RedisSessions, disk_cache, redis_always, redis_everysec
from benchmarks.durable_tables import PostgresTable, now_ms, postgres_table
from benchmarks.servers import postgres_server, redis_server

KEYS = [f"discord:user{number}" for number in range(200)]


def refuses(work: Callable[[], Any]) -> bool:
    """Whether a touch of what is not there raises, so that a rate can never be one of touches of nothing."""
    with suppress(LookupError):
        work()
        return False
    return True


def redis(folder: Path) -> dict[str, Any]:
    """Touches by GETEX, and what the append-only file then holds."""
    with redis_server(folder, appendonly="always") as server:
        sessions = RedisSessions(server)
        with closing(sessions.client):
            sessions.fill(KEYS)
            sessions.client.expire(KEYS[0], 5)
            sessions.client.expire(KEYS[1], 5)
            sessions.touch(KEYS[0])
            sessions.touch_many(KEYS[1:3])
            file = b"".join(each.read_bytes() for each in (folder / "appendonlydir").iterdir())
            return {
                "ttls": [sessions.client.ttl(key) for key in KEYS[:3]],
                "times in the file": file.upper().count(b"PEXPIREAT"),
                "refuses": [refuses(lambda: sessions.touch("no")), refuses(lambda: sessions.touch_many(["no"]))],
            }


def cache(folder: Path) -> dict[str, Any]:
    """diskcache's settings as its connections have them, and what a touch does."""
    found: dict[str, Any] = {}
    for name, shards in (("cache", 1), ("fanout", 8)):
        sessions = DiskCacheSessions(folder / name, shards)
        with closing(sessions.cache):
            sessions.fill(KEYS)
            sessions.cache.set(KEYS[0], "short", expire=5)
            sessions.touch(KEYS[0])
            one = sessions.cache._shards[0] if shards > 1 else sessions.cache
            assert isinstance(one, diskcache.Cache)
            _, expires = sessions.cache.get(KEYS[0], expire_time=True)
            found[name] = {
                "journal": one._sql("PRAGMA journal_mode").fetchone()[0],
                "synchronous": one._sql("PRAGMA synchronous").fetchone()[0],
                "evicts": [one.eviction_policy, one.cull_limit],
                "left_s": round(expires - time.time()),
                "count": len(sessions.cache),
                "refuses": [
                    refuses(lambda s=sessions: s.touch("no")),
                    refuses(lambda s=sessions: s.touch_many(["no"])),
                ],
            }
    return found


def postgres(folder: Path) -> dict[str, Any]:
    """The table in PostgreSQL: what touches and deletes change, and whether the index is used."""
    with postgres_server(folder) as server:
        table = PostgresTable(server.dsn)
        with closing(table.connection):
            table.fill([(key, number) for number, key in enumerate(KEYS)])
            before = now_ms()
            table.touch(KEYS[0])
            table.touch_many(KEYS[1:11])
            touched = table.connection.execute(
                "SELECT count(*) FROM sessions WHERE last_access >= %s", (before,)
            ).fetchone()
            deleted = table.delete_before(111)
            left = table.connection.execute("SELECT count(*) FROM sessions").fetchone()
            table.connection.execute("SET enable_seqscan = off")
            plan = table.connection.execute("EXPLAIN DELETE FROM sessions WHERE last_access < 5").fetchall()
            assert touched is not None
            assert left is not None
            return {
                "touched": touched[0], "deleted": deleted, "left": left[0],
                "by index": any("by_last_access" in str(line[0]) for line in plan),
                "refuses": [refuses(lambda: table.touch("no")), refuses(lambda: table.touch_many(["no"]))],
            }  # fmt: skip


def driven(folder: Path) -> dict[str, Any]:
    """Each subject, driven in all three ways for a moment: more than nothing was done, and nothing failed."""
    found: dict[str, Any] = {}
    for number, peer in enumerate((redis_always, redis_everysec, disk_cache, postgres_table)):
        (folder / f"{number}").mkdir()
        with ExitStack() as stack:
            for subject in stack.enter_context(peer(folder / f"{number}", KEYS)):
                ways = [subject.one, subject.callers, subject.hundred]
                found[subject.name] = [subject.loses, [None if way is None else way(0.02) > 0 for way in ways]]
    return found


def main(folder: Path) -> None:
    """All of it."""
    found = {}
    for work in (redis, cache, postgres, driven):
        within = folder / work.__name__
        within.mkdir()
        found[work.__name__] = work(within)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

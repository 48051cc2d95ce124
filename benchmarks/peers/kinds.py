"""Every kind of subject of the live benchmarks, and what a reader has to know of it; loaded when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.port import Subject, in_process


class Kind(NamedTuple):
    """A kind of subject."""

    name: str
    module: str
    maker: str
    """In that module: makes one, of a number of sessions; or opens one, of a folder, keys and that number."""
    durability: str
    """What a power loss takes."""
    leaves_out: str
    """What it does not do of what the engine does, or does otherwise."""
    batches: bool = False
    """Whether it has a way of its own for many operations at once."""
    in_process: bool = True
    """Whether it is a plain object of this process, filled one by one."""


_SUSPENDED = "suspended sessions stand in a dictionary beside it"
KINDS = (
    Kind("engine, memory://", "engine", "engine_in_memory", "everything",
         "touches do not wait, the other commands are answered once they are folded", True, False),
    Kind("engine, sqlite://", "engine", "engine_on_sqlite", "touches not yet written, nothing else",
         "touches do not wait, the other commands are answered once they are on the disk and folded", True, False),
    Kind("OrderedDict", "ordered", "Ordered", "everything",
         f"the floor: no log, no lock, no check, no history; {_SUSPENDED}"),
    Kind("cachetools TTLCache", "cachetools_caches", "ttl_cache", "everything",
         f"no log, no history, no announcement of who expired; without the lock that threads need; {_SUSPENDED}"),
    Kind("cachetools TLRUCache", "cachetools_caches", "tlru_cache", "everything",
         f"the same; its heap keeps an entry for each touch until that one's time has come; {_SUSPENDED}"),
    Kind("theine", "theine_cache", "TheineCache", "everything",
         f"no log, no history; evicts by frequency, so a new session may be turned away; no lock; {_SUSPENDED}"),
    Kind("redis, redis-py", "redis_keys", "filled_redis", "everything",
         "no log, no history; evicts by a sample of five, suspended sessions too; a memory limit in place of a number;"
         " a touch leaves no time that could be read, but renews the time to live", True, False),
)  # fmt: skip
KIND = {kind.name: kind for kind in KINDS}


def opened(kind: Kind, folder: Path, keys: Sequence[str], most: int) -> AbstractContextManager[Subject]:
    """A subject with these sessions, for so many at most. Raises `ImportError`, or `PeerMissing` on entering."""
    maker = getattr(import_module(f"benchmarks.peers.{kind.module}"), kind.maker)
    if kind.in_process:
        return in_process(maker(most), keys)
    subject: AbstractContextManager[Subject] = maker(folder, keys, most)
    return subject

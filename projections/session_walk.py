"""Going through the live sessions, in steps: all of them, those of an owner, those under a registered prefix.

The view's lock is held for one step at a time, so that the fold and other reads have their turn in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, TypeVar

from lastseen.engine.session import Session
from lastseen.projections.partition import Partition
from lastseen.projections.prefix_index import Prefixes, PrefixIndex
from lastseen.projections.shards import Shards, parts_of

STEP = 4_096
"""Sessions copied with the lock held."""
INDEXED_AT_A_TIME = 1_024
"""Sessions put into an index, or prefixes registered, with the lock held: about 1 ms."""
Item = TypeVar("Item")


class Walked(Protocol):
    """What it goes through: the live view."""

    lock: AbstractContextManager[Any]
    partitions: list[Partition]

    def working_partitions(self) -> Sequence[Partition]:
        """The partitions that have not failed, and are not held for other engines."""
        ...


class SessionWalk:
    """The ways through a view's sessions."""

    def __init__(self, view: Walked) -> None:
        self._view = view
        self._prefixes = Prefixes()

    def register(self, prefixes: Iterable[str]) -> None:
        """Keep an index of the live sessions under each of these prefixes (`LiveView.register`)."""
        known = self._prefixes.known
        new = [prefix for prefix in dict.fromkeys(prefixes) if prefix and prefix not in known]
        if new:
            for step in batches(new, INDEXED_AT_A_TIME):
                with self._view.lock:
                    self._prefixes.add(step)
            for number in range(len(self._view.partitions)):
                self._index(self._view.partitions[number], new)

    def _index(self, partition: Partition, prefixes: Sequence[str]) -> None:
        """Put into a partition's index what lives there under these prefixes."""
        for step in batches(prefixes, INDEXED_AT_A_TIME):
            with self._view.lock:
                index = partition.prefix_index = partition.prefix_index or PrefixIndex()
                for prefix in step:
                    index.register(prefix)
        # From here on the partition updates the index with each session that begins or ends.
        for copied in self._copied(lambda: partition.by_id):
            for sessions in batches(copied, INDEXED_AT_A_TIME):
                with self._view.lock:
                    for session in sessions:
                        if partition.is_live(session):
                            index.add(session)
        for step in batches(prefixes, INDEXED_AT_A_TIME):
            with self._view.lock:
                index.all_whole(step)

    def sessions(self, owner: str | None = None, prefix: str = "") -> Iterator[tuple[Partition, Session]]:
        """Every live session that can be of this owner and under this prefix; others may be among them."""
        for partition, step in self.steps(owner, prefix):
            for session in step:
                yield partition, session

    def steps(self, owner: str | None = None, prefix: str = "") -> Iterator[tuple[Partition, list[Session]]]:
        """The same, some at a time. What lives throughout is in exactly one step."""
        registered = self._prefixes.over(prefix)
        for partition in self._view.working_partitions():
            if registered is not None:
                self._ensure(partition, registered)
            for step in self._copied(partial(_standing, partition, owner, registered)):
                yield partition, step

    def _copied(self, find: Callable[[], dict[str, Session] | Shards[Session]]) -> Iterator[list[Session]]:
        with self._view.lock:
            parts = parts_of(find())
            step = list(parts[0].values())
        for part in parts[1:]:
            if len(step) >= STEP:
                yield step
                step = []
            with self._view.lock:
                step += part.values()
        yield step

    def _ensure(self, partition: Partition, prefix: str) -> None:
        """Have a partition that was taken up since, or is being indexed at this moment, know the prefix whole."""
        with self._view.lock:
            sessions = None if partition.prefix_index is None else partition.prefix_index.find(prefix)
        if sessions is None or not sessions.is_whole:
            self._index(partition, list(self._prefixes.known))


def _standing(partition: Partition, owner: str | None, registered: str | None) -> dict[str, Session] | Shards[Session]:
    """Where a partition's sessions of an owner and under a registered prefix stand. The caller holds the lock."""
    index = None if registered is None else partition.prefix_index
    indexed = None if index is None or registered is None else index.find(registered)
    if indexed is not None:
        return indexed.sessions(owner)
    return partition.by_id if owner is None else partition.by_owner.get(owner) or {}


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """These, at most `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))

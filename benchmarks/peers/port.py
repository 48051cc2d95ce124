"""The few methods by which every subject of the live benchmarks is called, the engine's adapter included."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from benchmarks.mix import Operation

IDLE_S = 1_800
"""The idle limit: in force everywhere, and reached nowhere within a run."""


class Subject(Protocol):
    """A keeper of live sessions. Every method but `batch` is one operation on one session."""

    def create(self, key: str) -> object:
        """Begin a session; if there are too many, one goes."""
        ...

    def touch(self, key: str) -> object:
        """Activity: the idle time starts again, and the session is the most recently used."""
        ...

    def read(self, key: str) -> object:
        """The session, without touching it; `None` if it does not live."""
        ...

    def suspend(self, key: str) -> object:
        """Suspend it: neither idle time nor number concerns it any more."""
        ...

    def resume(self, key: str) -> object:
        """Take it up again."""
        ...

    def close(self, key: str) -> object:
        """End it."""
        ...

    def batch(self, operations: Sequence[Operation]) -> object:
        """Many operations in one go, by whatever means it has for that."""
        ...

    def settle(self) -> None:
        """Wait until all that was called has been done, in the background as well."""
        ...

    def rest(self) -> None:
        """Do its background work now, so that the subject measured next has the machine to itself."""
        ...

    def live(self) -> int:
        """How many sessions live."""
        ...


class Kept:
    """What a cache keeps of a session: as much as the engine knows without its body."""

    __slots__ = ("active_at", "created_at", "session_id")

    def __init__(self, now: float) -> None:
        self.session_id = secrets.token_urlsafe(16)
        self.created_at = self.active_at = now


class Cache:
    """The part that caches in this process share: suspended sessions stand aside, where no limit finds them."""

    def __init__(self) -> None:
        self.suspended: dict[str, Kept] = {}

    def batch(self, operations: Sequence[Operation]) -> None:
        """One after the other: they have nothing better."""
        for kind, key in operations:
            getattr(self, kind)(key)

    def settle(self) -> None:
        """Nothing is left to do."""

    def rest(self) -> None:
        """There is no background work."""


@contextmanager
def in_process(subject: Subject, keys: Sequence[str]) -> Iterator[Subject]:
    """A subject that lives and dies with this process, filled one by one."""
    for key in keys:
        subject.create(key)
    yield subject


now = time.monotonic

"""Sessions as aggregates of the library `eventsourcing`, on SQLite: the same idea as ours, in its usual form.

A touch is an event of the aggregate, so there is a log, and an aggregate has a history; which sessions are due is not
known."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from benchmarks.durable_drive import CALLERS, EACH, Subject, driven

AT_ITS_BEST = {
    "AGGREGATE_CACHE_MAXSIZE": "0",
    "AGGREGATE_CACHE_FASTFORWARD": "n",
    "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
}
"""One process writes, so what it has in memory (all of it: 0 is no limit) is right: nothing is read, or copied."""


class ChatSession(Aggregate):
    """A session as an aggregate."""

    def __init__(self, key: str, idle_ttl_ms: int) -> None:
        self.key = key
        self.idle_ttl_ms = idle_ttl_ms

    @staticmethod
    def create_id(key: str) -> UUID:
        """One id for each key."""
        return uuid5(NAMESPACE_URL, key)

    @event("Touched")
    def touch(self) -> None:
        """It was used: the event's own time, which becomes `modified_on`, says when."""


class AggregateSessions:
    """An application with a session for each key, on a file; `settings` are its environment's."""

    def __init__(self, path: Path, keys: Sequence[str], settings: dict[str, str]) -> None:
        env = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(path), **settings}
        self.application: Application[UUID] = Application(env)
        self.turn = threading.Lock()
        self.ids = {key: ChatSession.create_id(key) for key in keys}
        for start in range(0, len(keys), 500):
            self.application.save(*(ChatSession(key, 1_800_000) for key in keys[start : start + 500]))

    def touch(self, key: str) -> None:
        """One event, committed. Raises `AggregateNotFoundError` for a session that is not there."""
        session: ChatSession = self.application.repository.get(self.ids[key])
        session.touch()
        self.application.save(session)

    def touch_in_turn(self, key: str) -> None:
        """The same for many threads: its own pool gives up on a lock that 64 of them want."""
        with self.turn:
            self.touch(key)

    def touch_many(self, keys: Sequence[str]) -> None:
        """An event each, committed together."""
        sessions: list[ChatSession] = [self.application.repository.get(self.ids[key]) for key in keys]
        for session in sessions:
            session.touch()
        self.application.save(*sessions)


@contextmanager
def aggregates(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """As its documentation shows it: default settings."""
    yield from _aggregates(folder, keys, "eventsourcing aggregates", {}, "default settings: read, replayed and saved")


@contextmanager
def aggregates_at_best(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """All aggregates in memory, nothing read before a save."""
    said = "all of them cached, not copied, not fast-forwarded"
    yield from _aggregates(folder, keys, "eventsourcing aggregates, cached", AT_ITS_BEST, said)


def _aggregates(
    folder: Path, keys: Sequence[str], name: str, settings: dict[str, str], said: str
) -> Iterator[list[Subject]]:
    sessions = AggregateSessions(folder / "aggregates.db", keys, settings)
    with closing(sessions.application):
        yield [
            driven(
                name,
                EACH,
                keys,
                sessions.touch,
                [sessions.touch_in_turn] * CALLERS,
                sessions.touch_many,
                f"{said}; WAL, FULL; a batch is one save(); 64 threads take turns",
            )
        ]

"""What callers do all day: begin sessions, use them, suspend them, hold them, end them, or leave them to their
limits."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import lastseen
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.events import Closed, ClosedData, Created, CreatedData
from lastseen.engine.identifiers import new_event_id, new_session_id
from lastseen.engine.lifecycle import REMEMBERED_ENDINGS
from lastseen.engine.log.port import Log, Message
from lastseen.engine.session import Policy

KEYS = 4_000
MAX_SESSIONS = 1_000
SETTINGS: dict[str, Any] = {
    "idle_ttl": "20s",
    "suspend_ttl": "5s",
    "max_age": "60s",
    "max_messages": 40,
    "max_sessions": MAX_SESSIONS,
    "max_body_bytes": 300_000,
    "archive_interval": "30s",
}
"""Short limits, so that sessions come and go; fewer places than keys; and room for a part of the bodies."""
BRIEF = lastseen.policy(idle_ttl="300ms", suspend_ttl="1s", max_messages=20)
_TEXT = "The quick brown fox jumps over the lazy dog. " * 40
_BATCH = 2_000


class Visitor:
    """One caller, with a draw of its own."""

    def __init__(self, engine: lastseen.Engine, draw: Random) -> None:
        self._engine, self._draw = engine, draw
        self._acts: list[Callable[[str], object]] = []
        for weight, act in (
            (38, self._touch), (22, self._say), (7, self._update), (6, self._suspend), (5, self._take_up),
            (5, self._work), (6, self._leave), (2, self._turn_over), (3, self._touch_some), (6, self._look),
        ):  # fmt: skip
            self._acts += [act] * weight

    def act(self) -> None:
        """Do one thing with one session. Raises what the engine raises."""
        # Some keys come often, most seldom: a least recently used one is to be found.
        key = f"chat:{int(KEYS * self._draw.random() ** 2)}"
        self._draw.choice(self._acts)(key)

    def _open(self, key: str) -> lastseen.SessionView:
        found = self._engine.get(key)
        if found is not None:
            return found
        brief = {"policy": BRIEF} if self._draw.random() < 0.5 else {}
        owner = f"user{self._draw.randrange(500)}"
        return self._engine.open(key, attributes={"owner": owner, "state": self._text(300)}, **brief)

    def _text(self, most: int) -> str:
        return _TEXT[: self._draw.randrange(1, most)]

    def _touch(self, key: str) -> None:
        self._engine.touch(key, session_id=self._open(key).session_id)

    def _say(self, key: str) -> None:
        self._open(key)
        self._engine.touch(key, message={"from": "user", "text": self._text(1_500)})

    def _update(self, key: str) -> None:
        self._open(key)
        self._engine.update(key, {"state": self._text(600), "step": self._draw.randrange(100)})

    def _suspend(self, key: str) -> None:
        self._open(key)
        self._engine.suspend(key)

    def _take_up(self, key: str) -> None:
        self._engine.resume(key)

    def _work(self, key: str) -> None:
        self._open(key)
        if self._draw.random() < 0.5:
            with self._engine.hold(key, lease_ms=2_000):
                self._engine.touch(key, attributes={"job": self._draw.randrange(1_000)})
        else:
            self._engine.take_lease(key, "a job that dies", 500)

    def _leave(self, key: str) -> None:
        self._engine.close(key, reason="logout")

    def _turn_over(self, key: str) -> None:
        self._open(key)
        self._engine.rotate(key)

    def _touch_some(self, key: str) -> None:
        self._engine.touch_many([key, *(f"chat:{self._draw.randrange(KEYS)}" for _ in range(4))])

    def _look(self, _: str) -> None:
        key = f"chat:{self._draw.randrange(KEYS)}"
        session = self._engine.get(key)
        if session is not None:
            _ = session.attributes
        self._engine.messages(key)
        self._engine.history(key, limit=20)
        self._engine.list(limit=10, owner=f"user{self._draw.randrange(500)}")


def fill_memory_of_the_dead(log: Log, now_ms: int) -> int:
    """Begin and end as many sessions as a partition remembers, so that this is no growth later; how many records."""
    time, records = iso_from_ms(now_ms), 0
    for number in range(log.partitions):
        for start in range(0, REMEMBERED_ENDINGS, _BATCH):
            batch = []
            for each in range(start, min(start + _BATCH, REMEMBERED_ENDINGS)):
                key, session_id = f"past:{each}", new_session_id()
                named = {"source": "/soak", "subject": key, "time": time}
                born = CreatedData(session_id=session_id, policy=Policy(idle_ttl_ms=60_000))
                gone = ClosedData(session_id=session_id, reason="logout")
                batch.append(Message(number, key, encode(Created(id=new_event_id(now_ms), data=born, **named))))
                batch.append(Message(number, key, encode(Closed(id=new_event_id(now_ms), data=gone, **named))))
            log.append(batch)
            records += len(batch)
    return records

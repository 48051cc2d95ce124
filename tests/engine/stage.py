"""What the engine's tests stand on: an engine, its clock, and how it is stopped, killed and started again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import lastseen
from lastseen import Engine, ManualClock, policy
from lastseen.engine.errors import Refused
from lastseen.engine.log.port import Log, Message, Position

S, MIN, HOUR = 1_000, 60_000, 3_600_000
T0 = 1_700_000_000_000
KEY = "discord:guild1:chan2:ana"
KINDS = ("memory", "sqlite")


class Stage:
    """An engine on a log of its own, turned by a manual clock, with no threads unless it is asked for them."""

    def __init__(self, folder: Path, kind: str = "sqlite", partitions: int = 1) -> None:
        self.folder = folder
        self.url = "memory://" if kind == "memory" else f"sqlite:///{folder / 'log.db'}"
        self.partitions = partitions
        self.clock = ManualClock(T0)
        self.opened: list[Engine] = []

    def open(self, **settings: Any) -> Engine:
        """Another engine on the log."""
        chosen = {"background": False, "partitions": self.partitions, **settings}
        engine = lastseen.open_engine(self.url, clock=self.clock, **chosen)
        self.opened.append(engine)
        return engine

    def crash(self, engine: Engine) -> None:
        """Let an engine go as a killed process does: nothing more is flushed."""
        self.opened.remove(engine)
        engine._background.stop()
        engine._subscriptions.close()
        engine._log.close()
        engine._state.snapshot.close()
        engine._state.history.close()

    def end(self) -> None:
        """Shut every engine down."""
        for engine in self.opened:
            engine.shutdown()


class LogBetween:
    """A log that lets a test do something between a command's decision and its append, or count what is read."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.before_append: list[Callable[[], object]] = []

    def append(self, messages: Sequence[Message]) -> list[Position]:
        if self.before_append:
            self.before_append.pop(0)()
        return self.log.append(messages)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


def state_of(engine: Engine) -> dict[str, Any]:
    """All that an engine knows of live sessions and the past, as plain values that can be compared.

    Reading the bodies changes nothing but the cache, so counters of the cache are left out.
    """
    sessions = engine.list(limit=10_000).sessions
    report = engine.statistics()
    del report["bodies"], report["pruner"]
    return {
        "sessions": {session.key: session.as_dict() for session in sessions},
        "lru": [session.key for _, session in engine._views.in_lru_order()],
        "by deadline": [session.key for session in engine.list(sort="deadline", limit=10_000).sessions],
        "by creation": [session.key for session in engine.list(sort="created", limit=10_000).sessions],
        "messages": {
            session.key: [(m.offset, m.event_id, m.at_ms, m.value) for m in engine.messages(session.key)]
            for session in sessions
        },
        "owners": {
            owner: sorted(s.key for s in engine.list(owner=owner, limit=10_000).sessions) for owner in ("ana", "bob")
        },
        "endings": [list(partition.endings.newest(1_000)) for partition in engine._views.partitions],
        "due some day": sorted(due[:5] for due in engine._pruner.plan(T0 + 1_000 * 24 * HOUR, 10_000).due),
        "checkpoints": engine.checkpoints(),
        "log times": [
            (part.log_time_ms, part.importing, part.log_id, part.log_partitions) for part in engine._views.partitions
        ],
        "statistics": report,
        "count": engine.count(),
    }


LIMITS = [
    policy(idle_ttl="30m"),
    policy(idle_ttl="5m", max_age="20m", max_messages=2),
    policy(suspend_ttl="10m"),
    policy(idle_ttl="10m", touch_precision="1m", suspend_ttl="3m", max_messages=None),
]


def do_something(engine: Engine, clock: ManualClock, choose: Random) -> None:
    """One command, drawn at random; that it may be refused is part of it."""
    key = f"key-{choose.randrange(12)}"
    attributes = {"owner": choose.choice(["ana", "bob"]), "n": choose.randrange(9), "text": "x" * choose.randrange(99)}
    with suppress(Refused):
        match choose.randrange(14):
            case 0 | 1 | 2:
                engine.open(key, attributes=choose.choice([None, attributes]), policy=choose.choice(LIMITS))
            case 3 | 4:
                engine.touch(key)
            case 5:
                engine.update(key, {choose.choice(["owner", "n"]): choose.choice([None, "bob", 5])})
            case 6 | 7:
                engine.touch(key, message={"said": choose.randrange(99), "padding": "y" * choose.randrange(99)})
            case 8:
                engine.suspend(key)
            case 9:
                engine.resume(key)
            case 10:
                engine.take_lease(key, choose.choice("ab"), choose.randrange(1, 20) * MIN)
            case 11:
                choose.choice([engine.close, engine.rotate])(key)
            case 12:
                clock.advance(choose.choice([1, 30 * S, 2 * MIN, 6 * MIN]))
            case 13:
                engine.prune()


def unsaved_bytes(engine: Engine) -> int:
    """What changes of bodies that wait for a flush take in memory."""
    with engine._views.lock:
        return sum(each.cost_bytes() for each in engine._state.bodies._unsaved.values())

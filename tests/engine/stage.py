"""What the engine's tests stand on: an engine, its clock, and how it is stopped, killed and started again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lastseen
from engine.log.port import Log, Message, Position
from lastseen import Engine, ManualClock

S, MIN, HOUR = 1_000, 60_000, 3_600_000
T0 = 1_700_000_000_000
PATIENCE_S = 20
"""How long a test waits for what must come; only a broken engine takes so long."""
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
        engine._upkeep.stop()
        engine._subscriptions.close()
        engine._log.close()
        engine._snapshot.close()
        engine._history.close()

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
        "next deadlines": [partition.deadlines.next_ms() is None for partition in engine._views.partitions],
        "checkpoints": engine.checkpoints(),
        "log times": [(part.log_time_ms, part.importing) for part in engine._views.partitions],
        "statistics": report,
        "count": engine.count(),
    }

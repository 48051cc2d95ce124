"""A node: one process with an engine, a clock that may be wrong, a disk, and a way to the brokers. It can crash."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from lastseen.embedded.engine import Engine
from lastseen.embedded.settings import Settings
from lastseen.engine.errors import EngineClosed, LastseenError
from lastseen.engine.session import SessionView
from tests.simulation.brokers import Appended, Brokers, Crash, Line
from tests.simulation.disk import Disk, free
from tests.simulation.plan import Plan
from tests.simulation.seeded import process


class NodeClock:
    """True time, and this node's error."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self.skew_ms = 0

    def now_ms(self) -> int:
        """What this node believes."""
        return self._brokers.now_ms + self.skew_ms

    def sleep_until(self, deadline_ms: int, wake: threading.Event, at_most_ms: int) -> None:  # noqa: ARG002
        """No thread sleeps in a simulation."""
        raise AssertionError("a simulated node has no threads")


class Pressure:
    """How short memory is (`lastseen.embedded.memory_pressure.MemoryPressure`)."""

    def __init__(self) -> None:
        self.now = 0.0

    def share(self) -> float:
        """Memory in use as a share of the limit."""
        return self.now


class Answer(NamedTuple):
    """What a caller received, and what its call has sent."""

    node: int
    command: str
    key: str
    wait: str
    pinned: bool
    view: tuple[str, int] | None
    """Id and version of the session that was returned."""
    error: LastseenError | None
    appended: list[Appended]
    checkpoints: list[int]
    """How far the node had folded when it answered."""
    many: dict[str, str]
    """Of a call about many keys: by key the kind of its result."""


class Node:
    """A process that is started, used, killed and started again."""

    def __init__(
        self, number: int, brokers: Brokers, folder: Path, draw: Random, plan: Plan, happened: Callable[[str], None]
    ) -> None:
        self.number = number
        self.plan = plan
        self.brokers = brokers
        self.disk = Disk(folder, draw)
        self.clock = NodeClock(brokers)
        self.pressure = Pressure()
        self._draw = draw
        self._happened = happened
        self._settings = Settings.of(
            background=False,
            snapshot=str(self.disk.snapshot),
            source=f"/node/{number}",
            archive_interval="10m",
            **plan.settings,
        )
        self._remembered: dict[bytes, object] = {}
        self.engine: Engine | None = None
        self.starts = 0

    def start(self) -> Engine:
        """Start the process; it catches up. Raises what the engine raises."""
        assert self.engine is None
        self._remembered = {}
        self.line = Line(self.brokers, self.number, self._draw, self._happened)
        with process(self._remembered):
            engine = Engine(self.line, self.clock, self._settings)
            if engine._maintenance.owned_partitions is not None:
                engine._maintenance.owned_partitions.adjust()
        self.starts += 1
        publisher = engine._duties._publisher
        assert publisher is not None
        publisher._outbox._max_kept = self.plan.outbox_limit
        publisher._monotonic_s = lambda: self.brokers.now_ms / 1000
        engine._maintenance.memory_relief.pressure = self.pressure  # type: ignore[assignment]
        self.engine = engine
        self.heard = engine.subscribe()
        self.heard_from = [partition.checkpoint for partition in engine._views.partitions]
        return engine

    def holds(self, partition: int) -> bool:
        """Whether it answers for a partition."""
        return partition in self.running.held()

    @property
    def running(self) -> Engine:
        """The engine, which is up."""
        assert self.engine is not None
        return self.engine

    def files(self) -> tuple[Any, Any]:
        """The connections to snapshot and history."""
        return self.running._state.snapshot._file._connection, self.running._state.history._connection

    def die(self, *, power_lost: bool = False, torn: bool = False, deleted: bool = False) -> None:
        """The process is gone at once; what its disk keeps depends on what else happened."""
        self._note_refolds()
        engine, self.engine = self.running, None
        image = self.disk.image()
        engine._state.snapshot.close()
        engine._state.history.close()
        self.line.close()
        if power_lost:
            self.disk.lose_unsynced(image)
        if torn:
            self.disk.tear(image)
        if deleted:
            self.disk.forget(image)
        self.disk.restore(image)

    def _note_refolds(self) -> None:
        publisher = self.running._duties._publisher
        if publisher is not None and publisher.refolded:
            self._happened("outbox overflows")

    def stop(self) -> None:
        """Shut down in good order."""
        self._note_refolds()
        engine, self.engine = self.running, None
        with process(self._remembered):
            engine.shutdown()

    def do(self, work: Callable[[Engine], Any]) -> LastseenError | None:
        """Let the process do something; the error if it failed. A crash on the way ends the process."""
        try:
            with process(self._remembered):
                work(self.running)
        except LastseenError as error:
            return error
        except Crash:
            self.die()
            return EngineClosed("it crashed")
        return None

    def call(
        self, command: str, key: str, work: Callable[[Engine], Any], *, wait: str = "applied", pinned: bool = False
    ) -> Answer | None:
        """A caller's command and its answer; `None` where the process died before it could give one."""
        self.line.appended = []
        result: list[Any] = []
        error = self.do(lambda engine: result.append(work(engine)))
        # Touches without a waiting caller go before the next append, and are no part of that call.
        all_of_it, self.line.appended = self.line.appended, []
        appended = [each for each in all_of_it if each.soon == (wait == "none")]
        if wait == "appended" and not appended:
            appended = all_of_it[-1:]  # what is to be acknowledged must have been waited for
        if self.engine is None:
            return None
        view = result[0] if result else None
        seen = (view.session_id, view.version) if isinstance(view, SessionView) else None
        reached = [partition.checkpoint for partition in self.running._views.partitions]
        several = zip(self.plan.keys, view, strict=True) if isinstance(view, list) else ()
        many = {each: type(result).__name__ for each, result in several}
        return Answer(self.number, command, key, wait, pinned, seen, error, appended, reached, many)

    def heal(self) -> None:
        """All that was wrong with this node is right again; it runs."""
        self.clock.skew_ms = 0
        self.pressure.now = 0.0
        if self.engine is None:
            self.start()
        self.line.armed = None
        self.line.read_limit = 512
        self.line.fact_publisher.armed = None
        free(*self.files())

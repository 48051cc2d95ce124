"""An engine in a process of its own, to be killed or stopped at any moment. It answers questions about itself."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import lastseen
from tests.kafka.published import live_in


class Report(NamedTuple):
    """What an engine says of itself."""

    checkpoints: dict[int, tuple[int, str]]
    owned: frozenset[int]
    published: dict[int, int]
    """For each partition that it publishes, the offset from which on nothing is published yet."""
    count: int
    live: dict[str, Any]
    announced: int
    """How many endings its pruner has written."""
    begun_at: dict[int, int]
    """The checkpoints that its snapshot gave it."""
    notes: list[str]
    health: list[str]


def live(url: str, pipe: Connection, settings: dict[str, Any]) -> None:
    """Run an engine until the parent process is gone, or kills this one."""
    begun_at: dict[int, int] = {}
    remember_where_it_began(begun_at)
    engine = lastseen.open_engine(url, **settings)
    pipe.send("open")
    try:
        while True:
            pipe.recv()
            pipe.send(report_of(engine, begun_at))
    except (EOFError, BrokenPipeError):
        engine.shutdown()


def remember_where_it_began(begun_at: dict[int, int]) -> None:
    """From here on, `open_engine` notes from which checkpoints it reads the log."""
    import lastseen.embedded.engine

    load = lastseen.embedded.engine.load

    def load_and_note(*given: Any) -> Any:
        state = load(*given)
        begun_at.update({partition.number: partition.checkpoint for partition in state.partitions})
        return state

    lastseen.embedded.engine.load = load_and_note


def report_of(engine: lastseen.Engine, begun_at: dict[int, int]) -> Report:
    """What there is to say of an engine."""
    publisher = engine._duties._publisher
    assert publisher is not None
    return Report(
        engine.checkpoints(), engine.owned(), dict(publisher._next), engine.count(), live_in(engine),
        engine.statistics()["pruner"]["announced"], begun_at, engine.notes, [str(e) for e in engine.health().values()],
    )  # fmt: skip

"""An engine on a log whose import is not finished."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lastseen import Engine, ManualClock, Settings
from lastseen.engine import events
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.errors import LogUnavailable
from lastseen.engine.genesis import SUBJECT, genesis
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Message
from lastseen.monitoring.readiness import checks

T0 = 1_700_000_000_000


def opening(log_id: str, number: int, partitions: int, imports: bool = False) -> Message:
    event_id = f"{log_id}-{number}"
    return genesis(log_id, number, partitions, T0, source="/import", event_id=event_id, imports=imports)


def failing(engine: Engine) -> Sequence[str]:
    return [check.name for check in checks(engine) if not check.ok]


def test_an_engine_is_not_ready_until_the_import_is_finished() -> None:
    clock = ManualClock(T0)
    log = MemoryLog(clock, 2)
    log.append([opening("a log", number, 2, imports=True) for number in range(2)])
    with Engine(log, clock, Settings.of(background=False)) as engine:
        assert failing(engine) == ["import"]
        for number in range(2):
            assert engine.is_importing
            refused(engine, log)
            finished = events.ImportFinished(
                id=f"end-{number}", source="/import", subject=SUBJECT, time=iso_from_ms(T0)
            )
            log.append([Message(number, SUBJECT, encode(finished))])
            engine.refresh()
        assert failing(engine) == []
        engine.open("ana")


def refused(engine: Engine, log: MemoryLog) -> None:
    """What writes is refused, and writes nothing."""
    ends = log.end_offsets()
    for write in (engine.open, engine.create):
        with pytest.raises(LogUnavailable, match="open for import"):
            write("ana")
    assert log.end_offsets() == ends
    assert engine.get("ana") is None


def test_a_stray_opening_does_not_open_a_log_that_others_use() -> None:
    clock = ManualClock(T0)
    log = MemoryLog(clock)
    log.append([opening("a log", 0, 1)])
    with Engine(log, clock, Settings.of(background=False)) as engine:
        log.append([opening("another", 0, 1, imports=True)])
        engine.refresh()
        assert not engine.is_importing
        assert failing(engine) == []

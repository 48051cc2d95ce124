"""An engine opens on a log that others write to without a pause; it folds what was there when it began."""

from __future__ import annotations

from lastseen import Engine, ManualClock, Settings
from lastseen.engine.log.memory import MemoryLog
from tests.engine.stage import T0

GIVES_UP_AFTER = 200
"""Looks at the end of the log, before the test says that the engine runs after it for ever."""


class BusyLog:
    """A log that grows each time that its end is read."""

    def __init__(self, log: MemoryLog, writer: Engine, sizes: list[int]) -> None:
        self._log, self._writer, self._sizes = log, writer, sizes
        self.looks = 0

    def end_offsets(self) -> list[int]:
        """Where it ends, after others have written so much more; the last size is that of all looks that follow."""
        self.looks += 1
        assert self.looks < GIVES_UP_AFTER, "an engine that opens runs after the end of the log for ever"
        for _ in range(self._sizes.pop(0) if len(self._sizes) > 1 else self._sizes[0]):
            self._writer.touch("telegram:42")
        return self._log.end_offsets()

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


def opened_on(sizes: list[int]) -> tuple[int, int, int]:
    """How often an engine that opens looks for the end, what it has folded then, and how long the log was before."""
    clock, chosen = ManualClock(T0), Settings.of(background=False)
    log = MemoryLog(clock, genesis=True)
    with Engine(log, clock, chosen) as writer:
        writer.open("telegram:42")
        for _ in range(99):
            writer.touch("telegram:42")
        (before,) = log.end_offsets()
        busy = BusyLog(log, writer, sizes)
        with Engine(busy, clock, chosen) as engine:  # type: ignore[arg-type]
            return busy.looks, engine.checkpoints()[0][0], before


def test_a_log_that_grows_without_a_pause_is_opened() -> None:
    looks, folded, before = opened_on([60])
    assert folded >= before
    assert looks <= 4


def test_what_is_appended_meanwhile_is_folded_too_while_it_becomes_less() -> None:
    _, folded, before = opened_on([0, 40, 10, 2, 0])
    assert folded == before + 52

"""What the simulation has found, each as short as it could be made, with the seed that found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import lastseen
from engine.errors import LogMismatch, SessionExists
from engine.log.memory import MemoryLog
from lastseen import Engine, ManualClock, Settings
from tests.simulation.brokers import T0

MIN = 60_000


class Ahead:
    """The clock of a machine that is ahead of the log's."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.by_ms = 0

    def now_ms(self) -> int:
        return self._clock.now_ms() + self.by_ms


class Stand:
    """An engine beside a log that can be cut, with a clock of its own."""

    def __init__(self) -> None:
        self.true = ManualClock(T0)
        self.own = Ahead(self.true)
        self.log = MemoryLog(self.true)
        settings = Settings.of(background=False, idle_ttl="1m")
        self.engine = Engine(self.log, self.own, settings)  # type: ignore[arg-type]

    def lose(self, records: int) -> None:
        """The log loses its newest records."""
        del self.log._records[0][-records:]


@pytest.fixture
def stand() -> Iterator[Stand]:
    stand = Stand()
    yield stand
    stand.engine.shutdown()


def test_a_pruner_whose_clock_was_set_back_announces_what_is_due(stand: Stand) -> None:
    """Seed 90: it had announced it by a clock that was ahead, and kept quiet until its clock was there again."""
    stand.engine.open("ana")
    stand.own.by_ms = 59_000
    stand.true.advance(30_000)
    assert [due.key for due in stand.engine.prune().due] == ["ana"], "due by a clock that is ahead"
    assert stand.engine.count() == 1, "and not by the log's"
    stand.own.by_ms = 0
    stand.true.advance(30_000)
    assert [due.key for due in stand.engine.prune().due] == ["ana"]
    assert stand.engine.count() == 0


def test_a_log_that_is_shorter_than_what_was_folded_stops_the_follower(stand: Stand) -> None:
    """Seed 7: a refresh went well, and what came afterwards would have been folded on top of what was lost."""
    for key in ("ana", "ben", "cyd"):
        stand.engine.open(key)
    stand.lose(2)
    with pytest.raises(LogMismatch, match="up to offset 3 have been folded, and the log ends at 1"):
        stand.engine.refresh()
    with pytest.raises(LogMismatch):
        stand.engine.get("ana")


def test_a_record_that_takes_the_place_of_a_lost_one_stops_the_follower(stand: Stand) -> None:
    """Seed 206: the command ended in an assertion, and the engine went on."""
    for key in ("ana", "ben", "cyd"):
        stand.engine.open(key)
    stand.lose(1)
    with pytest.raises(LogMismatch, match="where another was folded before"):
        stand.engine.open("dan")
    with pytest.raises(LogMismatch):
        stand.engine.get("ana")


def test_an_engine_whose_clock_is_ahead_says_what_the_log_says(stand: Stand) -> None:
    """Seed 81: eight records, all void, and then the word that the session "changed 8 times"."""
    stand.engine.open("ana")
    stand.own.by_ms = 59_000
    stand.true.advance(30_000)
    with pytest.raises(SessionExists):
        stand.engine.open("ana")
    assert stand.log.end_offsets() == [2], "decided once: nothing has changed that could be decided anew"
    assert lastseen.Verdict.EXISTS in [entry.verdict for entry in stand.engine.history("ana")]

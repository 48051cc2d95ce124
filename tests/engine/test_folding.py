"""Folding several partitions: the one with the least left first, in turns, and none waits for one that fails."""

from __future__ import annotations

import pytest

from lastseen.embedded.folding import TURN_READS, fold_in_turns, raise_passing
from lastseen.engine.errors import LogCorrupt, LogUnavailable

READ = 10
"""Records in one read here."""


class Reader:
    """The follower as far as folding uses it: each read folds `READ` records; some partitions fail."""

    def __init__(self, *failing: int, error: Exception | None = None) -> None:
        self.reached: dict[int, int] = {}
        self.reads: list[int] = []
        """The partition of each read, in order."""
        self._failing, self._error = failing, error or LogUnavailable("the broker is away")

    def folded(self, number: int) -> int:
        return self.reached.get(number, 0)

    def advance(self, number: int, end: int) -> int:
        self.reads.append(number)
        if number in self._failing:
            raise self._error
        count = min(READ, end - self.folded(number))
        self.reached[number] = self.folded(number) + count
        return count


def fold(reader: Reader, ends: dict[int, int], **how: object) -> dict[int, Exception]:
    return fold_in_turns(reader, ends, **({"goes_on": lambda: True} | how))  # type: ignore[arg-type]


def test_the_partition_with_the_least_left_is_first_and_a_large_one_has_turns() -> None:
    reader, large = Reader(), 3 * TURN_READS * READ
    assert fold(reader, {0: large, 1: 85, 2: 5}) == {}
    assert reader.reached == {0: large, 1: 85, 2: 5}
    assert reader.reads[:1] == [2]
    small_ones_done = max(place for place, number in enumerate(reader.reads) if number != 0)
    assert reader.reads[:small_ones_done].count(0) <= TURN_READS


def test_two_large_partitions_advance_together() -> None:
    reader, large = Reader(), 4 * TURN_READS * READ
    ahead: list[int] = []
    fold(reader, {0: large, 1: large}, after_read=lambda: ahead.append(abs(reader.folded(0) - reader.folded(1))))
    assert max(ahead) <= TURN_READS * READ


@pytest.mark.parametrize("error", [LogUnavailable("away"), LogCorrupt("damaged"), RuntimeError("unexpected")])
def test_a_partition_that_fails_keeps_no_other_waiting(error: Exception) -> None:
    reader = Reader(0, error=error)
    assert fold(reader, {0: 50, 1: 500, 2: 600}) == {0: error}
    assert reader.reached == {1: 500, 2: 600}
    assert reader.reads.count(0) == 1


def test_only_what_passes_is_raised_afterwards() -> None:
    raise_passing({0: LogCorrupt("damaged")})
    with pytest.raises(LogUnavailable):
        raise_passing({0: LogCorrupt("damaged"), 1: LogUnavailable("away")})


def test_a_log_that_gives_nothing_ends_the_turns() -> None:
    class Empty(Reader):
        def advance(self, number: int, end: int) -> int:
            super().advance(number, end)
            self.reached[number] = 0
            return 0

    reader = Empty()
    assert fold(reader, {0: 50}) == {}
    assert reader.reads == [0]


def test_folding_ends_after_a_read_when_it_is_to_stop() -> None:
    reader = Reader()
    fold(reader, {0: 10_000, 1: 10_000}, goes_on=lambda: len(reader.reads) < 3)
    assert len(reader.reads) == 3


def test_rounds_bound_the_turns() -> None:
    reader = Reader()
    fold(reader, {0: 10_000, 1: 10}, rounds=1)
    assert reader.reached == {0: TURN_READS * READ, 1: 10}

"""The guard on ratios: what it lets pass, what it measures again, and what it says."""

from __future__ import annotations

import json

import pytest

from benchmarks.guard import Bound, bounds, lost
from benchmarks.measure import Row
from benchmarks.sections import SECTIONS

pytestmark = pytest.mark.thorough

SLOW = Bound("A", "ours / floor", at_least=0.5)
GROWN = Bound("E", "ours / cache", at_most=1.5)


def row(value: float, bound: Bound) -> Row:
    """A measured ratio."""
    return Row(bound.figure, value, "×", section=bound.section)


def never(letter: str) -> list[Row]:
    """What holds is not measured again."""
    raise AssertionError(f"measured {letter} again")


def test_ratios_within_their_bounds_pass() -> None:
    assert lost([row(0.5, SLOW), row(1.5, GROWN)], never, [SLOW, GROWN]) == []


def test_a_loss_that_is_measured_twice_is_reported_with_ratio_bound_and_figures() -> None:
    asked: list[str] = []

    def again(letter: str) -> list[Row]:
        asked.append(letter)
        return [row(0.2, SLOW)]

    losses = lost([row(0.1, SLOW), row(1.0, GROWN)], again, [SLOW, GROWN])
    assert asked == ["A"]
    assert losses == ["section A: ours / floor: it is to be at least 0.5, and it was 0.1 and, measured again, 0.2"]


def test_what_was_noise_passes_the_second_time() -> None:
    assert lost([row(0.1, SLOW)], lambda letter: [row(0.6, SLOW)], [SLOW]) == []


def test_what_grew_is_a_loss_too() -> None:
    losses = lost([row(2.0, GROWN)], lambda letter: [row(1.6, GROWN)], [GROWN])
    assert losses == ["section E: ours / cache: it is to be at most 1.5, and it was 2 and, measured again, 1.6"]


def test_a_guarded_figure_that_is_gone_is_a_loss() -> None:
    others = [Row("ours / a renamed floor", 9.0, "×", section="A")]
    assert len(lost(others, lambda letter: others, [SLOW])) == 1
    absent = [Row("ours / floor", 9.0, "×", section="A", missing="not installed")]
    assert len(lost(absent, lambda letter: absent, [SLOW])) == 1


def test_sections_that_were_not_measured_are_not_looked_at() -> None:
    assert lost([row(1.0, GROWN)], never, [SLOW, GROWN]) == []


def test_stored_bounds_are_whole() -> None:
    stored = bounds()
    assert stored
    for bound in stored:
        assert bound.section in {section.letter for section in SECTIONS}
        assert (bound.at_least is None) != (bound.at_most is None), json.dumps(bound)
        assert not any(server in bound.figure for server in ("redis", "postgres")), "CI may have no server"
    assert len({(bound.section, bound.figure) for bound in stored}) == len(stored)

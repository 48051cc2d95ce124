"""Measuring itself: turns, warm-up, medians, ratios pair by pair, percentiles that are samples."""

from __future__ import annotations

import random

import pytest

from benchmarks.measure import Row, at_most, in_turn, interleaved, missing, percentiles, rate, ratio

pytestmark = pytest.mark.thorough


def test_works_take_turns_and_the_first_round_only_warms_up() -> None:
    done: list[str] = []

    def work(name: str) -> float:
        done.append(name)
        return float(len(done))

    samples = in_turn(2, {"a": lambda: work("a"), "b": lambda: work("b")})

    assert sorted(done[:2]) == sorted(done[2:4]) == sorted(done[4:]) == ["a", "b"]
    assert {name: len(figures) for name, figures in samples.items()} == {"a": 2, "b": 2}
    assert 1.0 not in samples["a"] + samples["b"]


def test_no_work_always_has_the_same_neighbour_before_it() -> None:
    done: list[str] = []
    interleaved(3, a=lambda: float(done.append("a") or 0), b=lambda: float(done.append("b") or 0))
    firsts = done[::2]
    assert firsts == ["a", "b", "a", "b"]


def test_a_ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians() -> None:
    # The machine was slow in the second round, for both.
    samples = {"ours": [10.0, 1.0, 30.0], "theirs": [5.0, 0.25, 10.0]}
    row = ratio("ours / theirs", samples, "ours", "theirs", 3.5)
    assert (row.value, row.spread, row.reached) == (3.0, (2.0, 4.0), False)
    assert ratio("ours / theirs", samples, "ours", "theirs", 3.0).reached is True
    assert ratio("ours / theirs", samples, "ours", "theirs").reached is None


def test_a_ratio_of_unequal_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio("x", {"a": [1.0, 2.0], "b": [1.0]}, "a", "b", 1.0)


def test_limits_look_at_the_right_side() -> None:
    assert at_most("x", [1.0, 2.0, 9.0], "ms", 2.0).reached is True
    assert at_most("x", [1.0, 2.1, 9.0], "ms", 2.0).reached is False
    assert rate("x", [1.0, 2.0, 9.0], 2.0).reached is True
    assert rate("x", [1.0, 1.9, 9.0], 2.0).reached is False
    assert rate("x", [1.0]).target == ""


def test_percentiles_are_samples_of_all() -> None:
    samples = [float(number) for number in range(1, 10_001)]
    random.Random(1).shuffle(samples)
    assert percentiles(samples) == {"p50": 5001.0, "p99": 9901.0, "p99.9": 9991.0}
    assert percentiles([7.0]) == {"p50": 7.0, "p99": 7.0, "p99.9": 7.0}
    assert percentiles([]) == {}


def test_what_is_missing_has_a_name_and_a_reason_and_reaches_nothing() -> None:
    row = missing("redis-server", "not on the path")
    assert (row.subject, row.missing, row.reached) == ("redis-server", "not on the path", None)
    assert isinstance(row, Row)

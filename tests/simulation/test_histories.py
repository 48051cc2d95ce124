"""Many simulated histories: no invariant is broken, and every verdict and every fault has occurred often enough."""

from __future__ import annotations

import os

import pytest

from tests.simulation.many import FAULTS, STANDARD_RUNS, report, run_many
from tests.simulation.run import run
from tests.simulation.shrink import shortest

RUNS = int(os.environ.get("LASTSEEN_SIMULATED_HISTORIES", STANDARD_RUNS))
FEW_RUNS = 500
SEED = int(os.environ.get("LASTSEEN_SIMULATION_SEED", "1"))


def test_every_invariant_holds_in_some_histories() -> None:
    """On one processor, for the tests beside this one have the others; and from another seed than the many."""
    batch = run_many(SEED + RUNS, FEW_RUNS, processes=1)
    assert not batch.failed, report(batch)
    assert batch.runs == FEW_RUNS
    assert batch.too_rare(at_least=1) == [], report(batch)


@pytest.mark.thorough
def test_every_invariant_holds_in_every_history_and_everything_happens_often_enough() -> None:
    batch = run_many(SEED, RUNS)
    assert not batch.failed, report(batch)
    if RUNS >= STANDARD_RUNS:
        assert batch.too_rare() == [], report(batch)
    assert batch.runs == RUNS


def test_no_fault_is_counted_unless_it_is_required() -> None:
    """The list by which the gate goes names every fault that there is."""
    happened = {fault for seed in range(1, 60) for fault in run(seed).faults}
    assert happened <= set(FAULTS)


def test_a_seed_is_the_same_history_each_time() -> None:
    for seed in (3, 17, 88):
        one, other = run(seed), run(seed)
        assert one.print == other.print
        assert one.records == other.records
        assert one.verdicts == other.verdicts


def test_seeds_are_different_histories() -> None:
    assert len({run(seed).print for seed in range(20)}) == 20


def test_what_is_left_out_is_left_out() -> None:
    result = run(5, [])
    assert result.plan.steps == ()
    assert result.violations == []


def test_shortening_finds_the_steps_that_matter() -> None:
    tried = []

    def fails(steps: object) -> bool:
        tried.append(steps)
        return {7, 31, 32} <= set(steps)  # type: ignore[call-overload]

    assert shortest(range(64), fails) == [7, 31, 32]
    assert len(tried) < 120


def test_shortening_stops_in_time() -> None:
    assert len(shortest(range(64), lambda steps: len(steps) > 20, tries=3)) == 32

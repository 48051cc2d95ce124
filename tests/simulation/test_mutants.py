"""Bugs that are put in on purpose are noticed: a few of them here, all by `python -m tests.simulation.mutants`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.simulation.invariants import INVARIANTS
from tests.simulation.many import report, run_many
from tests.simulation.mutant_list import FAST, MUTANTS, Mutant
from tests.simulation.mutants import PAGE, Trial, page, try_all

NAMES = [mutant.name for mutant in MUTANTS]


@pytest.fixture(scope="module")
def trials() -> dict[str, Trial]:
    """The fast ones, tried."""
    return {each.mutant.name: each for each in try_all([mutant for mutant in MUTANTS if mutant.name in FAST])}


@pytest.mark.thorough
@pytest.mark.parametrize("name", FAST)
def test_a_mutant_is_noticed(name: str, trials: dict[str, Trial]) -> None:
    assert trials[name].killed, trials[name].says


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_the_text_that_a_mutant_replaces_is_there_once(mutant: Mutant) -> None:
    spec = find_spec(mutant.module)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.old != mutant.new


def test_every_invariant_has_a_mutant_that_it_notices() -> None:
    assert len(MUTANTS) == len(set(NAMES)) >= 25
    assert {mutant.kills for mutant in MUTANTS if isinstance(mutant.kills, int)} == set(INVARIANTS)


def test_the_page_has_every_mutant_and_none_survives() -> None:
    said = PAGE.read_text(encoding="utf-8")
    rows = [line for line in said.splitlines() if line.startswith("|")][2:]
    assert [row.split("|")[2].strip() for row in rows] == NAMES
    assert "survived" not in said
    assert f"{len(MUTANTS)} of {len(MUTANTS)} are noticed." in said


def test_a_mutant_that_no_check_notices_is_reported() -> None:
    harmless = Mutant("harmless", "lastseen.engine.session", "HOUR_MS = 3_600_000", "HOUR_MS = 3_599_999 + 1", 1)
    said = page([Trial(harmless, False, "survived")])
    assert "0 of 1 are noticed." in said
    assert "| harmless | `lastseen.engine.session` | survived |" in said


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session lives on in reads when it is due."""
    monkeypatch.setattr("lastseen.engine.session.Session.is_due", lambda self, at_ms: False)


@pytest.mark.usefixtures("broken")
def test_a_failing_history_is_shortened_and_can_be_had_again() -> None:
    batch = run_many(1, 9, processes=1)
    assert batch.failed
    said = report(batch)
    seed = min(batch.failed)
    assert f"--seed {seed} --runs 1" in said
    assert "histories failed, at commit" in said
    chosen = [int(each) for each in said.rpartition("--steps ")[2].split(",")] if "--steps" in said else []
    assert run_many(seed, 1, 1, chosen).failed, "the steps that are named fail again"

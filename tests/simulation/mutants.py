"""`python -m tests.simulation.mutants`: try every mutant, and write to docs/mutants.md what noticed which."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.simulation.invariants import INVARIANTS
from tests.simulation.mutant_list import FAST, MUTANTS, Mutant
from tests.simulation.mutated import MOST_HISTORIES, ROOT

PAGE = ROOT / "docs" / "mutants.md"
MOST_S = 180


class Trial(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    killed: bool
    says: str


def trial(mutant: Mutant) -> Trial:
    """Try one mutant in a process of its own. One that hangs is noticed by that."""
    command = [sys.executable, "-m", "tests.simulation.mutated", mutant.name]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=MOST_S)
    except subprocess.TimeoutExpired:
        return Trial(mutant, False, f"no answer after {MOST_S} s")
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()[-1:] or ["said nothing"]
    return Trial(mutant, done.returncode == 0, lines[-1])


def try_all(mutants: Sequence[Mutant], processes: int | None = None) -> list[Trial]:
    """Try mutants, a few at a time."""
    with ThreadPoolExecutor(processes or os.cpu_count(), thread_name_prefix="mutants") as pool:
        return list(pool.map(trial, mutants))


def page(trials: Sequence[Trial]) -> str:
    """docs/mutants.md."""
    lines = [
        "# Mutants",
        "",
        "Plausible bugs, seeded one at a time, and what notices each. `python -m tests.simulation.mutants` tries them",
        "all and writes this page; a mutant of the simulation must break the named invariant within",
        f"{MOST_HISTORIES} histories, from seed 1 on. `make test` tries those marked with a star.",
        "",
        f"{sum(each.killed for each in trials)} of {len(trials)} are noticed.",
        "",
        "| | mutant | in | noticed by |",
        "|---|---|---|---|",
    ]
    for mutant, _, says in trials:
        star = "*" if mutant.name in FAST else ""
        lines.append(f"| {star} | {mutant.name} | `{mutant.module}` | {says} |")
    lines += ["", "The invariants:", ""]
    lines += [f"{number}. {invariant.SAYS}" for number, invariant in INVARIANTS.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Try the mutants that are asked for; write the page where that is all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--fast", action="store_true", help="only those that make test tries")
    parser.add_argument("--processes", type=int, default=None, help="how many at a time; all processors")
    chosen = parser.parse_args()
    names = chosen.names or (FAST if chosen.fast else [mutant.name for mutant in MUTANTS])
    trials = try_all([mutant for mutant in MUTANTS if mutant.name in names], chosen.processes)
    for mutant, killed, says in trials:
        sys.stdout.write(f"{'killed  ' if killed else 'SURVIVED'} {mutant.name}: {says}\n")
    if len(trials) == len(MUTANTS):
        PAGE.write_text(page(trials), encoding="utf-8")
    return 0 if all(each.killed for each in trials) else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.simulation --runs 2000 --seed 1`: many histories, one a seed; the first that fails is shortened."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.many import report, run_many


def main() -> int:
    """Run, report, and say by the exit code whether all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000, help="how many histories")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first; the others follow it")
    parser.add_argument("--processes", type=int, default=None, help="how many at a time; all processors")
    parser.add_argument("--steps", default=None, help="only these steps of the one history: 3,17,40")
    chosen = parser.parse_args()
    steps = None if chosen.steps is None else [int(each) for each in chosen.steps.split(",")]
    batch = run_many(chosen.seed, chosen.runs if steps is None else 1, chosen.processes, steps)
    sys.stdout.write(report(batch))
    return 1 if batch.failed or (batch.too_rare() and chosen.runs >= 2_000) else 0


if __name__ == "__main__":
    sys.exit(main())

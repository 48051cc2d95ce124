"""Many histories, on all processors; what they came to; of the first that fails, the shortest part that still does."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from lastseen.engine.verdicts import Verdict
from tests.simulation.faults import APPEND_FAULTS
from tests.simulation.plan import DAMAGES
from tests.simulation.run import RunResult, Violation, plan, run
from tests.simulation.shrink import shortest

STANDARD_RUNS = 2_000
AT_LEAST = 50
"""How often each verdict and each fault must have occurred in a standard run."""
FAULTS = (
    *APPEND_FAULTS, *DAMAGES, "record again", "poison", "marked offset", "leader's clock jumps", "slow reader",
    "node's clock jumps", "kill", "power loss", "torn snapshot", "lost snapshot", "restart", "full disk",
    "memory pressure", "rebalance", "zombie owner", "zombie pruner", "heir behind", "facts not acknowledged",
    "outbox overflows", "old state", "strange facts", "strange states",
)  # fmt: skip
CHUNK = 10
MOST_SHOWN = 5


@dataclass
class Batch:
    """What many histories came to."""

    runs: int = 0
    records: int = 0
    seconds: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failed: dict[int, list[Violation]] = field(default_factory=dict)
    """By seed."""
    steps: Sequence[int] | None = None
    """Only these steps were taken."""

    def add(self, seed: int, result: RunResult) -> None:
        """Count one history."""
        self.runs += 1
        self.records += result.records
        self.verdicts += result.verdicts
        self.faults += result.faults
        if result.violations:
            self.failed[seed] = result.violations

    def too_rare(self, at_least: int = AT_LEAST) -> list[str]:
        """Verdicts and faults that have not been seen often enough: for a standard run, unless said otherwise."""
        seen = self.verdicts + self.faults
        return [name for name in (*(verdict.label for verdict in Verdict), *FAULTS) if seen[name] < at_least]


def run_many(first: int, runs: int, processes: int | None = None, steps: Sequence[int] | None = None) -> Batch:
    """The histories of `runs` seeds from `first` on."""
    batch, began = Batch(steps=steps), time.monotonic()
    if steps is not None:
        batch.add(first, run(first, [plan(first).steps[number] for number in steps]))
    elif runs < CHUNK or processes == 1:
        for seed in range(first, first + runs):
            batch.add(seed, run(seed))
    else:
        # Started anew rather than forked: a fork would take locks and connections with it.
        with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count()) as pool:
            for result in pool.imap_unordered(run, range(first, first + runs), chunksize=CHUNK):
                batch.add(result.plan.seed, result)
    batch.seconds = time.monotonic() - began
    return batch


def report(batch: Batch) -> str:
    """What to read of it."""
    rate = batch.runs / max(batch.seconds, 0.001)
    lines = [f"{batch.runs} histories, {batch.records} records, {batch.seconds:.1f} s ({rate:.0f} histories a second)"]
    for title, counts in (("verdicts", batch.verdicts), ("faults", batch.faults)):
        lines.append(f"{title}: {', '.join(f'{name} {count}' for name, count in counts.most_common())}")
    if batch.runs >= STANDARD_RUNS:
        lines += [f"too rare, fewer than {AT_LEAST} times: {name}" for name in batch.too_rare()]
    for seed in sorted(batch.failed)[:MOST_SHOWN]:
        lines += [f"seed {seed}: invariant {each.invariant}: {each.says}" for each in batch.failed[seed][:MOST_SHOWN]]
    if batch.failed:
        lines += _shortened(min(batch.failed), batch)
    else:
        lines.append("all invariants hold")
    return "\n".join(lines) + "\n"


def _shortened(seed: int, batch: Batch) -> list[str]:
    numbers = list(range(len(plan(seed).steps))) if batch.steps is None else list(batch.steps)
    wanted = {violation.invariant for violation in batch.failed[seed]}

    def still_fails(steps: Sequence[int]) -> bool:
        result = run(seed, [plan(seed).steps[number] for number in steps])
        return bool(wanted & {violation.invariant for violation in result.violations})

    kept = shortest(numbers, still_fails)
    names = [f"  {number}: {plan(seed).steps[number].name}" for number in kept]
    chosen = ",".join(map(str, kept))
    return [
        f"{len(batch.failed)} histories failed, at commit {commit()}",
        f"seed {seed} fails with {len(kept)} of its {len(numbers)} steps:",
        *names,
        f"again: python -m tests.simulation --seed {seed} --runs 1" + (f" --steps {chosen}" if kept else ""),
    ]


def commit() -> str:
    """The commit at which this runs, and whether the tree is as it was committed."""
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
        return found.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git)"

"""Subjects side by side: a process for each, and the blocks of one plan done by each of them in turn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.live_child import Plan, keep_plan
from benchmarks.measure import Row, in_turn, missing
from benchmarks.peers.kinds import Kind

ENDS_WITHIN_S = 60


class Child:
    """The process of one subject."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def answer(self) -> dict[str, Any]:
        """What it says next. Raises `ChildProcessError` where it has ended without a word."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"{' '.join(self._process.args[3:])} ended with {self._process.wait()}, see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def do(self, number: int, block: str) -> dict[str, Any]:
        """Have it do a block of a round; how long it took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([number, block]) + "\n")
        self._process.stdin.flush()
        return self.answer()


@contextmanager
def child(kind: Kind, folder: Path, plan: Path) -> Iterator[Child]:
    """The process of a subject, which ends with its input."""
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.live_child", kind.name, str(folder), str(plan)]
    root = Path(__file__).parent.parent
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        yield Child(process)
    finally:
        try:
            process.communicate(timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


class Entrant(NamedTuple):
    """A subject with the plan that it is put through."""

    kind: Kind
    plan: Plan


class Found:
    """What the entrants of a group did: for each block figures by entrant, one a round."""

    def __init__(self) -> None:
        self.rates: dict[str, dict[str, list[float]]] = {}
        """Operations a second until the last call returned."""
        self.settled: dict[str, dict[str, list[float]]] = {}
        """Until all was done in the background as well."""
        self.cpu_us: dict[str, dict[str, list[float]]] = {}
        """What an operation cost its process's cores, in µs, until all was done."""
        self.samples: dict[str, list[float]] = {}
        """Every single call of the timed blocks, in µs."""
        self.missing: list[Row] = []


def measured(entrants: Mapping[str, Entrant], folder: Path) -> Found:
    """Put all of these through their plans, which have the same blocks, in turn. The first round warms up."""
    found = Found()
    folder = folder.resolve()
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        started = {}
        for number, (name, entrant) in enumerate(entrants.items()):
            plan = folder / f"plan-{number}"
            keep_plan(entrant.plan, plan)
            started[name] = stack.enter_context(child(entrant.kind, folder / str(number), plan))
        ready = {name: each for name, each in started.items() if _is_ready(each, found)}
        blocks = dict.fromkeys(block for name in ready for block in entrants[name].plan.rounds[0])
        for block in blocks:
            _measure(block, {name: (entrants[name], each) for name, each in ready.items()}, found)
    return found


def _is_ready(each: Child, found: Found) -> bool:
    answer = each.answer()
    if "missing" in answer:
        found.missing.append(missing(*answer["missing"]))
    return "missing" not in answer


def _measure(block: str, ready: Mapping[str, tuple[Entrant, Child]], found: Found) -> None:
    """One block, round after round, as the plans drew them."""
    rounds: dict[str, int] = {}
    found.settled[block], found.cpu_us[block] = {}, {}

    def rate(name: str, plan: Plan, each: Child) -> float:
        number = rounds[name] = rounds.get(name, -1) + 1
        operations = len(plan.rounds[number][block])
        done = each.do(number, block)
        if number:
            if "samples" in done:
                found.samples.setdefault(name, []).extend(done["samples"])
            found.settled[block].setdefault(name, []).append(operations / done.get("settled", done["seconds"]))
            found.cpu_us[block].setdefault(name, []).append(done.get("cpu", 0.0) / operations * 1e6)
        return float(operations / done["seconds"])

    works = {
        name: partial(rate, name, entrant.plan, each)
        for name, (entrant, each) in ready.items()
        if entrant.kind.batches or not block.startswith("batch")
    }
    repetitions = min(len(entrant.plan.rounds) for entrant, _ in ready.values()) - 1
    found.rates[block] = in_turn(repetitions, works)

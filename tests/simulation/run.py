"""One history from one seed: plan it, let it happen, let it come to rest, and judge it."""

from __future__ import annotations

import hashlib
import logging
import random
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lastseen.engine.errors import LastseenError
from tests.simulation.calm import come_to_rest
from tests.simulation.damage import damage
from tests.simulation.faults import FAULTS
from tests.simulation.invariants import INVARIANTS
from tests.simulation.plan import Plan, Step, plan_of
from tests.simulation.seeded import seeded
from tests.simulation.workload import ACTIONS
from tests.simulation.world import World

REGISTRY = ACTIONS | FAULTS
_IN_MEMORY = Path("/dev/shm")


class Violation(NamedTuple):
    """What is wrong: which invariant, and how."""

    invariant: int
    """0: something was raised that should not be."""
    says: str


class RunResult(NamedTuple):
    """What became of a history."""

    plan: Plan
    violations: list[Violation]
    verdicts: Counter[str]
    faults: Counter[str]
    records: int
    print: str
    """A digest of everything that happened: two runs of one seed must agree on it."""


def plan(seed: int) -> Plan:
    """The plan of a seed."""
    weights = [{name: weight for name, (weight, _) in table.items()} for table in (ACTIONS, FAULTS)]
    return plan_of(seed, *weights)


def run(seed: int, steps: Sequence[Step] | None = None, planned: Plan | None = None) -> RunResult:
    """The history of a seed, or only some of its steps; or of a plan that was written down, as the seed was then."""
    planned = plan(seed) if planned is None else planned
    if steps is not None:
        planned = replace(planned, steps=tuple(steps))
    place = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="lastseen-simulated-", dir=place))
    logger = logging.getLogger("lastseen")
    was, logger.disabled = logger.disabled, True
    try:
        with seeded(seed):
            return _run(planned, folder)
    finally:
        logger.disabled = was
        shutil.rmtree(folder, ignore_errors=True)


def _run(planned: Plan, folder: Path) -> RunResult:
    world = World(planned, folder)
    violations: list[Violation] = []
    try:
        for number, step in enumerate(planned.steps):
            world.step = number
            _, action = REGISTRY[step.name]
            action(world, _draw(step))
        come_to_rest(world)
        violations += judge(world)
        damage(world)
        violations += [Violation(18, says) for says in INVARIANTS[18].check(world)]
    except Exception:
        violations += [Violation(0, f"step {world.step}: {''.join(traceback.format_exc()[-1500:])}")]
        with suppress(Exception):
            violations += judge(world)
    finally:
        for node in world.nodes:
            if node.engine is not None:
                with suppress(LastseenError):
                    node.die()
    outcomes = [folded for reference in world.references for folded in reference.folded]
    result = hashlib.sha256(repr([(look.node, look.checkpoint, look.digest) for look in world.evidence.looks]).encode())
    result.update(repr(sorted(world.evidence.happened.items())).encode())
    verdicts = Counter(folded.verdict.label for folded in outcomes)
    return RunResult(planned, violations, verdicts, world.evidence.happened, len(outcomes), result.hexdigest())


def judge(world: World) -> list[Violation]:
    """What each invariant has to say. One that cannot even be checked is broken."""
    world.follow()
    found = [Violation(0, says) for says in world.evidence.errors]
    for number, invariant in INVARIANTS.items():
        try:
            found += [Violation(number, says) for says in invariant.check(world)]
        except Exception:
            found.append(Violation(number, f"could not be judged: {traceback.format_exc()[-800:]}"))
    return found


def _draw(step: Step) -> random.Random:
    return random.Random(step.seed)

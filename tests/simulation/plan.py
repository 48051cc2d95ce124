"""What a history will be: how many nodes and partitions, which limits, which faults, and the steps, all from one seed.

Not every fault is on in every history: a fault that is always there hides what others do.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from lastseen.projections.outbox import MAX_KEPT

S, MIN = 1_000, 60_000
KEYS = ("ana", "ben", "cyd", "dan", "eve", "irc:#ubuntu:é")
DAMAGES = ("truncated", "gap", "beginning deleted", "remade", "other partitions")


class Step(NamedTuple):
    """One thing that happens; `seed` is all the randomness that it may use, so leaving others out changes it little."""

    name: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """A history before it happens."""

    seed: int
    partitions: int
    nodes: int
    steady: bool
    """Whether log time never goes back."""
    settings: dict[str, Any]
    policies: list[dict[str, Any]]
    read_limit: int
    outbox_limit: int
    """How many effects a node keeps for others; what is dropped must be folded again."""
    keys: tuple[str, ...]
    damage: str | None
    steps: tuple[Step, ...]


def plan_of(seed: int, actions: dict[str, int], faults: dict[str, int]) -> Plan:
    """The plan that a seed stands for; `actions` and `faults` are names with their weights."""
    draw = Random(seed)
    view = "owned" if Random(seed + 3).random() < 0.2 else "all"
    enabled = {name: weight for name, weight in faults.items() if draw.random() < 0.45}
    weights = actions | enabled
    calm = 20 if draw.random() < 0.6 else 1
    names = draw.choices([*weights], [*weights.values()], k=draw.randrange(50, 110))
    return Plan(
        seed=seed,
        partitions=draw.choice([1, 2, 2, 3]),
        nodes=draw.choice([1, 2, 2, 2, 3]),
        steady=draw.random() < 0.5,
        settings={
            "idle_ttl": draw.choice([2 * S, 30 * S, 5 * MIN]),
            "max_age": draw.choice([None, None, 10 * S * calm]),
            "suspend_ttl": draw.choice([None, 5 * S * calm]),
            "touch_precision": draw.choice([None, None, None, 500]),
            "max_hold": draw.choice([2 * S, 10 * MIN]),
            "max_messages": draw.choice([2, 1000]),
            "max_sessions": draw.choice([None, 2, 3]),
            "evict_on_pressure": draw.random() < 0.5,
            "max_body_bytes": draw.choice([1, 1_000, 10**6]),
            "view": view,
        },
        policies=[_policy(draw, calm) for _ in range(3)],
        read_limit=draw.choice([1, 2, 512]),
        outbox_limit=Random(seed + 4).choice([3, 20] + 4 * [MAX_KEPT]),
        keys=KEYS[: draw.choice([2, 4, 6])],
        damage=draw.choice(DAMAGES) if draw.random() < 0.3 and view == "all" else None,
        steps=tuple(Step(name, draw.getrandbits(32)) for name in names),
    )


def _policy(draw: Random, calm: int) -> dict[str, Any]:
    limits = {
        "idle_ttl_ms": draw.choice([None, S * calm, 2_500 * calm, MIN * calm]),
        "max_age_ms": draw.choice([None, None, 4 * S * calm, 20 * S * calm]),
        "suspend_ttl_ms": draw.choice([None, S * calm, 30 * S * calm]),
        "touch_precision_ms": draw.choice([0, 0, 500]),
        "max_hold_ms": draw.choice([None, S, 60 * MIN]),
        "max_messages": draw.choice([1, 3, 1000]),
    }
    return {name: value for name, value in limits.items() if value is not None}

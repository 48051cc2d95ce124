"""Too many sessions: the least recently used end, and no more are left than there may be."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "capacity ends the least recently used that is not held or suspended, and the cap holds once caught up"


def check(world: World) -> Iterator[str]:
    """Every plan of a pruner against the sessions it saw, and how many are left when all is quiet."""
    for planned in world.evidence.planned:
        if planned.planned != planned.expected:
            yield f"node {planned.node} means to end {planned.planned} for {planned.reason}, not {planned.expected}"
    for each in world.evidence.passes:
        if each.max_sessions is not None and each.live > max(each.max_sessions, each.spared):
            yield f"{each.live} sessions live, {each.spared} of them spared; there may be {each.max_sessions}"

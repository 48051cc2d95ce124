"""A start from the snapshot, continued from the log, knows what a fold from the beginning knows."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "snapshot + tail = refold"


def check(world: World) -> Iterator[str]:
    """After each start, of whatever a crash had left."""
    for node, difference in world.evidence.restored:
        yield f"node {node} after a start: {difference}"

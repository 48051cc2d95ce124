"""The same prefix of the log gives the same digest on every replica, whatever happened to the replica."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "the same offset has the same digest on every replica"


def check(world: World) -> Iterator[str]:
    """Wherever a checkpoint was noted."""
    for look in world.evidence.looks:
        if world.references[look.partition].digests[look.checkpoint] != look.digest:
            yield f"node {look.node}: another digest of partition {look.partition} at {look.checkpoint}"

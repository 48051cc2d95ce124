"""A start from the snapshot, continued from the log, knows what a fold from the beginning knows."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "snapshot + tail = refold"


def check(world: World) -> Iterator[str]:
    """After each start, of whatever a crash had left; and what is kept with each session, in memory or on disk."""
    for node, difference in world.evidence.restored:
        yield f"node {node} after a start: {difference}"
    for body in world.evidence.bodies:
        reference = world.references[body.partition]
        chronicle, end = reference.chronicle, len(reference.folded)
        wanted = chronicle.attributes(body.session_id, end), chronicle.messages(body.session_id, end)
        if (body.attributes, body.messages) != wanted:
            yield f"node {body.node}: {body.session_id} has {(body.attributes, body.messages)}, not {wanted}"

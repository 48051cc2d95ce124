"""An ended session never comes back, and nothing takes effect on it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "no effect after the end"


def check(world: World) -> Iterator[str]:
    """For every session that ended."""
    for reference in world.references:
        chronicle = reference.chronicle
        for session_id, life in chronicle.lives.items():
            ends = chronicle.ends.get(session_id)
            if ends and life[-1].offset >= ends[0].offset:
                yield f"{life[-1].name} took effect on {session_id} at {life[-1].offset}; it ended at {ends[0].offset}"
            if sum(entry.name == "created" for entry in life) > 1:
                yield f"{session_id} began more than once"
    for read in world.evidence.reads:
        if read.seen is not None:
            chronicle = world.references[read.partition].chronicle
            if chronicle.ended(read.seen["id"], read.checkpoint):
                yield f"node {read.node} showed {read.seen['id']}, which has ended"

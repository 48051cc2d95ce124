"""A session that is due is over: nothing takes effect on it any more, and it is not shown."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "no effect at or past the deadline"


def check(world: World) -> Iterator[str]:
    """For every record that took effect on a session, and for every read."""
    for reference in world.references:
        chronicle = reference.chronicle
        for session_id, life in chronicle.lives.items():
            for entry in life[1:]:
                due = chronicle.deadline(session_id, entry.offset)
                if due is not None and entry.at_ms >= due[0]:
                    yield f"{entry.name} at {entry.at_ms} took effect on {session_id}, which was due at {due}"
    for read in world.evidence.reads:
        if read.seen is None:
            continue
        due = world.references[read.partition].chronicle.deadline(read.seen["id"], read.checkpoint)
        if due is not None and read.now_ms >= due[0]:
            yield f"node {read.node} showed {read.key} at {read.now_ms}, which was due at {due}"

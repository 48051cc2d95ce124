"""A session ends at most once, and every node has the same end."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "a session has at most one effective end"


def check(world: World) -> Iterator[str]:
    """In what the fold said, and in what every node's history says."""
    for reference in world.references:
        for session_id, found in reference.chronicle.ends.items():
            if len(found) > 1:
                yield f"session {session_id} ended {len(found)} times: {found}"
    for node, key, lives in world.evidence.lives:
        # A partition knows its own ids only: the same one, made up twice, may live in two.
        ends = world.reference_of(key).chronicle.ends
        for session_id, offset, at_ms, reason in lives:
            end = ends[session_id][0] if session_id in ends else None
            if offset is None and reason is not None and end is None:
                continue  # due, by the node's clock, and no record has ended it yet
            if (offset, at_ms, reason) != ((None, None, None) if end is None else tuple(end)):
                result = offset, at_ms, reason
                yield f"node {node}: {session_id} of {key} ended {result} in its history, {end} in the log"

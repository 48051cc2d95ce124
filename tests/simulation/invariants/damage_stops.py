"""A gap, a lost end or beginning, another topic: a node that can see it stops with an error, and no node steps over
it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "gap, truncation or topology change stops the follower; it is never skipped"


def check(world: World) -> Iterator[str]:
    """What each node did when the log was damaged."""
    for stop in world.evidence.stops:
        where = f"{stop.damage}: node {stop.node}, {stop.what},"
        # Of a log that was made anew, the history beside the snapshot may be the first to speak.
        if stop.must_stop and stop.error not in ("LogMismatch", "SnapshotError"):
            yield f"{where} did not stop ({stop.error})"
        if not stop.must_stop and stop.error is not None:
            yield f"{where} stopped with {stop.error}"
        if stop.wrong is not None:
            yield f"{where} {stop.wrong}"

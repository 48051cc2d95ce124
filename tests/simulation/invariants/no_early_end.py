"""No limit ends a session before its deadline, and it ends at its deadline, for the limit that set it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.oracle import BY_TIME
from tests.simulation.world import World

SAYS = "no time-based end with log time < deadline"


def check(world: World) -> Iterator[str]:
    """Deadlines as the chronicle computes them."""
    for reference in world.references:
        chronicle = reference.chronicle
        for session_id, ends in chronicle.ends.items():
            for end in ends:
                at_ms = reference.folded[end.offset].said.at_ms
                due = chronicle.deadline(session_id, end.offset) if end.reason in BY_TIME else None
                if end.reason in BY_TIME and (due is None or at_ms < due[0]):
                    yield f"{session_id} ended by a record of {at_ms} for {end.reason}, and was due at {due}"
                elif due is not None and due != (end.at_ms, end.reason):
                    yield f"{session_id} was due at {due}, and ended {end}"

"""A held or suspended session is neither evicted nor idled out."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "a held or suspended session is never evicted or idled out"


def check(world: World) -> Iterator[str]:
    """For every end under pressure or for idling."""
    for reference in world.references:
        chronicle = reference.chronicle
        for session_id, ends in chronicle.ends.items():
            for end in ends:
                if end.reason not in ("capacity", "memory", "idle"):
                    continue
                if chronicle.suspended_at(session_id, end.offset) is not None:
                    yield f"{session_id} ended for {end.reason}, and was suspended"
                leases = chronicle.leases(session_id, end.offset)
                if any(until > end.at_ms for until in leases.values()):
                    yield f"{session_id} ended for {end.reason} at {end.at_ms}, and was held: {leases}"

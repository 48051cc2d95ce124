"""Under a key lives one session at most, and all indexes agree on which."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tests.simulation.world import World

SAYS = "at most one live session per key"


def check(world: World) -> Iterator[str]:
    """By beginnings and ends, and by every node's indexes."""
    for reference in world.references:
        chronicle = reference.chronicle
        for key, sessions in chronicle.of_key.items():
            for earlier, later in pairwise(sessions):
                began = chronicle.lives[later][0].offset
                if not chronicle.ended(earlier, began + 1):
                    yield f"{later} began under {key} at {began}, and {earlier} lived"
    yield from world.evidence.crowds

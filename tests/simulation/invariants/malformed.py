"""What cannot be read, or is of no known type, changes nothing and stops nothing."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.world import World

SAYS = "malformed input changes nothing and never raises"


def check(world: World) -> Iterator[str]:
    """Every rotten record, and every other that was taken for one."""
    for reference in world.references:
        size = 0
        for folded in reference.folded:
            said = folded.said
            if said.label is not None and folded.verdict.label != said.label:
                yield f"offset {said.offset}: {folded.verdict.label} instead of {said.label}"
            if said.label is None and folded.verdict.label in ("control", "transactional", "malformed", "unknown_type"):
                yield f"offset {said.offset}: a good {said.name} was taken for {folded.verdict.label}"
            is_void = said.label is not None or folded.verdict.label == "clock_skew"
            if is_void and (folded.before != folded.after or folded.size != size or folded.outcome.ended is not None):
                yield f"offset {said.offset}: {folded.verdict.label} changed something"
            size = folded.size

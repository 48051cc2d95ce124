"""A record that comes again begins nothing, ends nothing, and stores no message twice."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.oracle import BY_TIME
from tests.simulation.reference import Folded
from tests.simulation.world import World

SAYS = "duplicates change nothing"
PROLONGS = ("last_active", "last_offset", "version", "leases", "deadline")
"""What a touch or a lease that comes again may change: it is activity again, or the same lease again."""


def check(world: World) -> Iterator[str]:
    """Every record that stood in its partition before."""
    for reference in world.references:
        first: dict[bytes, Folded] = {}
        last_of_key: dict[str | None, Folded] = {}
        for folded in reference.folded:
            value = folded.outcome.record.value or b""
            earlier = first.setdefault(value, folded)
            if earlier is not folded and earlier.verdict.label == "applied":
                before = last_of_key.get(folded.said.key)
                yield from _judged(folded, is_next=before is not None and before.outcome.record.value == value)
            last_of_key[folded.said.key] = folded
    for body in world.evidence.bodies:
        if len(body.messages) != len(set(body.messages)):
            yield f"node {body.node}: a message of {body.session_id} is kept twice: {body.messages}"


def _judged(folded: Folded, is_next: bool) -> Iterator[str]:
    place = f"{folded.said.name} again at {folded.said.offset}"
    ending = folded.outcome.ending
    if ending is not None and ending.reason not in BY_TIME:
        yield f"{place} ended a session for {ending.reason}"
    if folded.said.name == "created" and folded.verdict.label == "applied":
        yield f"{place} began a session"
    if is_next and ending is None and folded.before is not None and folded.after is not None:
        changed = [name for name in folded.before if folded.before[name] != folded.after[name]]
        if [name for name in changed if name not in PROLONGS]:
            yield f"{place}, right after the first, changed {changed}"

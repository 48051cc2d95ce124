"""A read shows all that was folded up to its place, and an answer its caller's own write."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.simulation.node import Answer
from tests.simulation.world import World

SAYS = "a read at position p reflects all of ≤ p"


def check(world: World) -> Iterator[str]:
    """Every read and every answer, against the chronicle at that place."""
    for read in world.evidence.reads:
        chronicle, before = world.references[read.partition].chronicle, read.checkpoint
        session_id = chronicle.live(read.key, before)
        wanted = None
        if session_id is not None:
            due = chronicle.deadline(session_id, before)
            if due is None or read.now_ms < due[0]:
                version = chronicle.version(session_id, before)
                wanted = {"id": session_id, "version": version, "deadline": due and due[0]}
        if read.seen != wanted:
            yield f"node {read.node} at {before} of partition {read.partition} shows {read.seen}, not {wanted}"
    places = {event_id: folded.said.offset for event_id, folded in world.first_copies().items()}
    for answer in world.evidence.answers:
        if answer.view is not None:
            yield from _own_write(world, answer, places)


def _own_write(world: World, answer: Answer, places: dict[str, int]) -> Iterator[str]:
    """The session that was returned is at least as new as the caller's record, and no newer than what was folded."""
    assert answer.view is not None
    reference = world.reference_of(answer.key)
    session_id, version = answer.view
    sent = [json.loads(message.value)["id"] for each in answer.appended for message in each.messages]
    until = answer.checkpoints[reference.partition.number]
    own = places.get(sent[-1]) if sent else None
    least = reference.chronicle.version(session_id, until if own is None else own + 1)
    most = reference.chronicle.version(session_id, until)
    if not least <= version <= most:
        yield f"node {answer.node} answered {answer.command} with version {version}, not {least} to {most}"

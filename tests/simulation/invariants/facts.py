"""Published facts without duplicates are the effects of the log, complete and in order; states are states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.simulation.oracle import Effect, Oracle
from tests.simulation.reference import Reference
from tests.simulation.world import World

SAYS = "facts, duplicates dropped, equal the applied effects in order"


def check(world: World) -> Iterator[str]:
    """The topics against the second opinion, and against each fact made right after its record was folded."""
    yield from world.evidence.heard
    if world.evidence.passes:
        topics = world.brokers.topics
        for reference, facts, strange, states in zip(
            world.references, topics.facts, topics.strange, topics.states, strict=True
        ):
            ours = [fact.value or b"" for place, fact in enumerate(facts) if place not in strange]
            yield from _facts(reference, ours)
            yield from _states(reference, dict(states))


def _facts(reference: Reference, facts: list[bytes]) -> Iterator[str]:
    published: list[bytes] = []
    last = (-1, -1)
    for fact in facts:
        what = json.loads(fact)["data"]
        if (what["offset"], what["k"]) > last:
            published.append(fact)
            last = what["offset"], what["k"]
    number = reference.partition.number
    if published != (wanted := [fact for folded in reference.folded for fact in folded.facts]):
        missing = [json.loads(fact)["id"] for fact in wanted if fact not in published]
        yield f"partition {number}: {len(published)} facts instead of {len(wanted)}; missing: {missing[:5]}"
    oracle = Oracle()
    oracle.judge_all(folded.said for folded in reference.folded)
    effects = [_effect(json.loads(fact)) for fact in published]
    for effect, expected in zip(effects, oracle.effects, strict=False):
        if effect != expected:
            yield f"partition {number}: published {effect}, and it was {expected}"
            return


def _effect(fact: dict[str, Any]) -> Effect:
    what = fact["data"]
    return Effect(
        what["offset"], what["k"], what["kind"], fact["subject"], what["session_id"], what["at_ms"], what["reason"],
        what["state"],
    )  # fmt: skip


def _states(reference: Reference, newest: dict[str, bytes | None]) -> Iterator[str]:
    published = {key: json.loads(value)["data"] for key, value in newest.items() if value is not None}
    end, chronicle = len(reference.folded), reference.chronicle
    live = {chronicle.keys[each]: chronicle.state(each, end) for each in reference.partition.by_id}
    if published != live:
        unlike = sorted(key for key in published.keys() | live.keys() if published.get(key) != live.get(key))
        yield f"partition {reference.partition.number}: the states of {unlike} are not what they are said to be"

"""The description of the topics: whole, and true of what is written to them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import lastseen
from lastseen.docs.topics_api import asyncapi
from lastseen.engine.events import STORED_EVENTS
from lastseen.engine.session import MAX_LIMIT_MS
from lastseen.projections.facts import Fact, FactId, encode, encode_state

T0 = 1_700_000_000_000


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """The description."""
    text: dict[str, Any] = json.loads(asyncapi())
    return text


def references(part: Any) -> Iterator[str]:
    """Every reference in it."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    found = set(references(described))
    assert len(found) > 20
    for reference in found:
        place = described
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_it_has_every_topic_and_every_event(described: dict[str, Any]) -> None:
    assert described["asyncapi"] == "3.0.0"
    addresses = [channel["address"] for channel in described["channels"].values()]
    assert addresses == ["{topic}", "{topic}.facts", "{topic}.state"]
    assert len(described["channels"]["log"]["messages"]) == len(STORED_EVENTS)
    for channel in described["channels"].values():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"])


def validator(described: dict[str, Any], message: str) -> Draft202012Validator:
    """Checks payloads of a message."""
    payload = described["components"]["messages"][message]["payload"]
    return Draft202012Validator({**payload, "components": described["components"]})


def fields_of(described: dict[str, Any], schema: str) -> set[str]:
    """The fields that a schema names: readers ignore others, and the service writes no others."""
    return set(described["components"]["schemas"][schema]["properties"])


def test_what_is_written_is_as_described(described: dict[str, Any]) -> None:
    clock, choose, kinds = lastseen.ManualClock(T0), Random(7), set()
    fact_form, state_form = validator(described, "fact"), validator(described, "state")
    with lastseen.open_engine("memory://", clock=clock, background=False, idle_ttl="5m") as engine:
        with engine.subscribe() as facts:
            engine.open("a", attributes={"owner": "ana"})
            engine.touch("a", message={"text": "hello"})
            engine.take_lease("a", "job", 60_000)
            engine.release("a", "job")
            engine.suspend("a")
            engine.resume("a")
            engine.rotate("a")
            clock.advance(choose.randrange(300_000, 400_000))
            engine.prune()
        while (fact := facts.get(0)) is not None:
            kinds.add(fact.kind)
            written = json.loads(encode(fact, "/lastseen/x"))
            fact_form.validate(written)
            assert set(written["data"]) == fields_of(described, "Fact")
            if fact.state is not None:
                assert set(fact.state) == fields_of(described, "SessionState")
                state_form.validate(json.loads(encode_state(fact.id, "/lastseen/x", fact.at_ms, fact.state)))
        for record in engine._log.read(0, 0, 100):
            assert record.value is not None
            event = json.loads(record.value)
            validator(described, event["type"]).validate(event)
    assert kinds == {"created", "touched", "held", "released", "suspended", "resumed", "ended"}


def test_what_is_not_so_does_not_pass(described: dict[str, Any]) -> None:
    fact = Fact(FactId(0, 1, 0), "ended", "a", "s", T0, "idle", None)
    wrong = json.loads(encode(fact, "/lastseen/x"))
    wrong["data"]["k"] = 2
    assert not validator(described, "fact").is_valid(wrong)
    without_time = json.loads(encode(fact._replace(at_ms=MAX_LIMIT_MS), "/lastseen/x"))
    assert "time" not in without_time
    assert validator(described, "fact").is_valid(without_time)

"""The second opinion agrees with the naive model of the properties, which was written from the same page by itself."""

from __future__ import annotations

import pytest

from tests.properties.histories import history
from tests.properties.naive import NaiveFold
from tests.simulation.chronicle import Said
from tests.simulation.oracle import Oracle


@pytest.mark.parametrize("seed", range(60))
def test_two_opinions_are_one(seed: int) -> None:
    result = [
        each
        for each in history(seed, 60, steady=True)
        if isinstance(each.event, str) or "import" not in each.event["type"]
    ]
    naive, oracle = NaiveFold(), Oracle()
    for offset, each in enumerate(result, start=1):
        is_event = isinstance(each.event, dict)
        said = Said(
            offset, each.timestamp_ms, each.key, each.event if is_event else None, None if is_event else each.event
        )  # type: ignore[arg-type]
        assert oracle.verdict(said) == naive.take(offset, each.timestamp_ms, each.event)
    live = naive.live()
    chronicle, end = oracle.chronicle, len(result) + 1
    assert {key: chronicle.live(key, end) for key in live} == {key: session["id"] for key, session in live.items()}
    for key, session in live.items():
        state = chronicle.state(session["id"], end)
        assert state["version"] == session["version"], key
        assert state["holders"] == session["leases"], key
        assert state["owner"] == session["owner"], key
        due = naive.deadline(session)
        assert state["deadline_ms"] == (None if due is None else due[0]), key
    assert {each for each, ends in chronicle.ends.items() if ends} == set(naive.endings)

"""Facts of the past: a subscriber that was away receives the same as those that listened, from any position."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import KEY, MIN, S, Stage, do_something

from lastseen import Engine, ManualClock, errors, policy
from lastseen.projections.facts import Fact


def heard_live(stage: Stage, seed: int, steps: int) -> tuple[Engine, list[Fact]]:
    """Some random commands, and the facts that a subscriber hears meanwhile."""
    engine = stage.open()
    choose = Random(seed)
    with engine.subscribe() as facts:
        for _ in range(steps):
            do_something(engine, stage.clock, choose)
    heard = []
    while (fact := facts.get(0)) is not None:
        heard.append(fact)
    return engine, heard


@settings(max_examples=40)
@given(st.integers(), st.floats(0, 1), st.booleans())
def test_replayed_facts_equal_those_delivered_live(seed: int, share: float, restarts: bool) -> None:
    with TemporaryDirectory() as folder:
        stage = Stage(Path(folder), partitions=2)
        engine, heard = heard_live(stage, seed, 150)
        if restarts:
            engine.shutdown()
            engine = stage.open()
        for number in range(2):
            end = engine.reached(number).offset + 1
            start = int(end * share)
            wanted = [fact for fact in heard if fact.id.partition == number and fact.id.offset >= start]
            assert list(engine.facts_between(number, start, end)) == wanted
        stage.end()


def test_from_between_a_rotation_and_the_next_record(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY, attributes={"owner": "ana"})
    with engine.subscribe() as facts:
        engine.rotate(KEY)
        engine.rotate(KEY)
        engine.touch(KEY)
    heard = [facts.get(0) for _ in range(5)]
    assert [fact.kind for fact in heard if fact is not None] == ["ended", "created", "ended", "created", "touched"]
    assert list(engine.facts_between(0, 2, 5)) == heard
    assert list(engine.facts_between(0, 4, 5)) == heard[4:]


def test_a_void_record_that_finds_a_session_due_tells_of_its_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = stage.open()
    session_id = engine.open(KEY, policy=policy(idle_ttl="1m")).session_id
    stage.clock.advance(MIN)
    late = ManualClock(stage.clock.now_ms() - 30 * S)
    for part in (engine, engine._loop, engine._touches):
        monkeypatch.setattr(part, "_clock", late)
    with engine.subscribe() as facts, pytest.raises(errors.LastseenError):
        engine.touch(KEY)
    heard = facts.get(0)
    assert heard is not None
    assert (heard.kind, heard.session_id, heard.reason) == ("ended", session_id, "idle")
    assert list(engine.facts_between(0, 2, 3)) == [heard]


def test_more_keys_than_are_kept_in_memory(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastseen.projections.facts_replay.MAX_KEYS", 2)
    engine, heard = heard_live(stage, 7, 200)
    assert list(engine.facts_between(0, 0, engine.reached(0).offset + 1)) == heard


def test_facts_that_the_log_does_not_have_are_not_delivered(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY)
    assert list(engine.facts_between(0, 2, 2)) == []
    with pytest.raises(errors.LogMismatch):
        list(engine.facts_between(0, 5, 9))

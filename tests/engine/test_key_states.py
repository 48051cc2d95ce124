"""Reads of the past begin at the latest state that is kept, and give what a fold from the first record gives."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from stage import KEY, MIN, S, Stage, do_something

from lastseen import Engine
from lastseen.engine.log.port import Position
from lastseen.engine.session import Policy, Session, pack_beginning
from lastseen.projections import as_of
from lastseen.projections.as_of import KeyRefold, check_wanted
from lastseen.projections.bodies import Body, BodyId
from lastseen.projections.key_states import KeyState, KeyStates


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets of the records that reads of the past have folded again."""
    found: list[int] = []
    fold = KeyRefold._fold

    def counted(self: KeyRefold, record: Any, entry: Any, *args: Any, **named: Any) -> None:
        found.append(entry.offset)
        fold(self, record, entry, *args, **named)

    monkeypatch.setattr(KeyRefold, "_fold", counted)
    return found


def seen(engine: Engine, key: str, at: int | Position) -> Any:
    session = engine.as_of(key, at)
    return session and session.as_dict(), [message[:] for message in engine.messages_as_of(key, at)]


@pytest.mark.parametrize("seed", range(3))
def test_states_change_no_answer(stage: Stage, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, choose = stage.open(), Random(seed)
    for _ in range(300):
        do_something(engine, stage.clock, choose)
        stage.clock.advance(choose.choice([0, 1, S]))
    ends = engine.checkpoints()["0" if "0" in engine.checkpoints() else 0][0]
    points: list[int | Position] = [Position(0, choose.randrange(1, ends)) for _ in range(40)]
    begun = stage.clock.now_ms() - engine.history("key-1")[0].at_ms
    points += [stage.clock.now_ms() - choose.randrange(begun + 1) for _ in range(40)]
    keys = [f"key-{number}" for number in range(12)]
    monkeypatch.setattr(as_of, "EVERY", 10**9)
    wanted = {(key, at): seen(engine, key, at) for key in keys for at in points}
    monkeypatch.setattr(as_of, "EVERY", 2)
    engine._key_states = KeyStates()
    order = list(wanted)
    for _ in range(2):  # the second time from the states that the first has left
        choose.shuffle(order)
        assert {asked: seen(engine, *asked) for asked in order} == wanted
    assert engine._key_states.used_bytes > 0


def test_a_second_read_folds_what_follows_the_nearest_state(
    stage: Stage, folded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_of, "EVERY", 10)
    engine = stage.open()
    for count in range(95):
        engine.open(KEY)
        engine.touch(KEY, message={"count": count})
        engine.open("other")
        engine.touch("other")
    end = engine.reached(0).offset
    assert len(seen(engine, KEY, Position(0, end))[1]) == 95
    del folded[:]
    for back in (0, 1, 40, 100):
        engine.as_of(KEY, Position(0, end - back))
        assert len(folded) <= 10
        del folded[:]


def test_earlier_sessions_of_a_key_are_not_folded(stage: Stage, folded: list[int]) -> None:
    engine = stage.open()
    for _ in range(20):
        engine.open(KEY)
        engine.touch(KEY)
        stage.clock.advance(MIN)
        engine.close(KEY)
        stage.clock.advance(MIN)
    last = engine.open(KEY)
    found = engine.as_of(KEY, stage.clock.now_ms())
    assert found is not None
    assert (found.session_id, folded) == (last.session_id, [last.born_offset])
    del folded[:]
    assert engine.as_of(KEY, stage.clock.now_ms() - 1) is None
    assert engine.as_of(KEY, Position(0, last.born_offset - 1)) is None
    assert folded == []


def test_a_read_that_was_given_up_is_continued(
    stage: Stage, folded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_of, "EVERY", 10)
    engine = stage.open()
    engine.open(KEY)
    for _ in range(60):
        engine.touch(KEY)

    class GivenUp(Exception):
        pass

    def after(count: int) -> Callable[[], None]:
        def check() -> None:
            if len(folded) >= count:
                raise GivenUp

        return check

    token = check_wanted.set(after(35))
    with pytest.raises(GivenUp):
        engine.as_of(KEY, stage.clock.now_ms())
    check_wanted.reset(token)
    del folded[:]
    found = engine.as_of(KEY, stage.clock.now_ms())
    assert found is not None
    assert (found.version, len(folded)) == (61, 31)


def state(offset: int, size: int) -> KeyState:
    session = Session(KEY, "x" * 22, Policy(), pack_beginning(0, 0), offset, offset)
    return KeyState(offset, offset * 10, session, Body(cost_bytes=size))


def test_what_is_kept_is_bounded() -> None:
    states, first, second = KeyStates(max_bytes=20_000), BodyId(0, 1), BodyId(0, 2)
    for offset in range(100):
        states.keep(first, state(offset, 400))
        states.keep(first, state(offset, 400))
        assert states.used_bytes <= 20_000
    latest = states.latest(first, 99, None)
    assert latest is not None
    assert latest.offset >= 90
    found = states.latest(first, 99, 500)
    assert found is None or found.at_ms <= 500
    states.keep(second, state(7, 19_000))
    assert states.latest(first, 99, None) is None, "the one that was not used for longest has left"
    assert states.latest(second, 6, None) is None
    assert states.latest(second, 7, 69) is None
    states.keep(second, state(9, 40_000))
    assert states.used_bytes <= 20_000

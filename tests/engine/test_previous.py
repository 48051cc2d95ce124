"""Who lived under a key before: reason, time, record and messages, from the history."""

from __future__ import annotations

from random import Random

import pytest
from stage import KEY, MIN, T0, Stage, do_something

from lastseen import Engine, ManualClock, policy
from lastseen.engine.errors import EngineClosed, SessionEnd


def test_a_session_that_is_opened_names_the_one_before(engine: Engine, clock: ManualClock) -> None:
    first = engine.open(KEY, policy=policy(idle_ttl="1m"))
    assert first.previous is None
    engine.touch(KEY, message={"said": "hello"})
    clock.advance(5 * MIN)
    second = engine.open(KEY)
    before = SessionEnd(first.session_id, T0, T0 + MIN, "idle", (0, 3), engine._source)
    assert second.previous == before
    assert [message.value for message in engine.messages_as_of(KEY, before.ended_at_ms - 1)] == [{"said": "hello"}]
    third = engine.rotate(KEY, reason="reset")
    assert third.previous is not None
    assert (third.previous.session_id, third.previous.reason) == (second.session_id, "reset")
    engine.close(KEY, reason="logout")
    # Views that were made earlier say the same as before, whatever has happened since.
    assert (first.previous, second.previous, third.previous.session_id) == (None, before, second.session_id)
    past = engine.as_of(KEY, clock.now_ms() - 1)
    assert past is None or past.previous is not None


@pytest.mark.parametrize("flushes", [False, True])
def test_each_session_of_any_history_names_the_one_before(stage: Stage, flushes: bool) -> None:
    engine, choose = stage.open(), Random(7)
    views = {}
    for step in range(400):
        do_something(engine, stage.clock, choose)
        for session in engine.list(limit=100).sessions:
            views[session.session_id] = session
        if flushes and step % 50 == 0:
            engine.flush()
    assert len(views) > 30
    for key in {view.key for view in views.values()}:
        last: SessionEnd | None = None
        for life in engine.session_spans(key):
            if life.session_id in views:
                assert views[life.session_id].previous == last
            if life.ended_at_ms is not None and life.ended_offset is not None:
                place = (life.partition, life.ended_offset)
                last = SessionEnd(
                    life.session_id, life.began_at_ms, life.ended_at_ms, str(life.reason), place, life.ended_by
                )


def test_it_is_known_after_a_restart_and_costs_an_open_nothing(on_disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = on_disk.open()
    first = engine.open(KEY)
    engine.close(KEY, reason="logout")
    engine.shutdown()
    engine = on_disk.open()
    monkeypatch.setattr(engine._state.history, "_reader", lambda: pytest.fail("the history is read"))
    second = engine.open(KEY)
    monkeypatch.undo()
    assert second.previous is not None
    assert second.previous.session_id == first.session_id
    engine.shutdown()
    with pytest.raises(EngineClosed):
        _ = second.previous

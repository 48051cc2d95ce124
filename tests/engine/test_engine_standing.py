"""How far an engine has come, and how the last session of a key ended."""

from __future__ import annotations

import pytest
from stage import KEY, MIN, T0, S, Stage

from lastseen import Position, errors, policy


def test_a_position_is_reached_when_it_is_folded(on_disk: Stage) -> None:
    reader, writer = on_disk.open(), on_disk.open()
    assert reader.reached(0) == Position(0, 0)
    position = writer.open(KEY).position
    assert writer.reached(writer.partition_of(KEY)) == position
    assert not reader.has_reached(position)
    assert reader.wait_for(position, 1)
    assert reader.has_reached(position)
    assert reader.get(KEY) is not None


def test_what_never_comes_is_waited_for_no_longer_than_asked(on_disk: Stage) -> None:
    engine = on_disk.open()
    assert not engine.wait_for(Position(0, 7), 0.01)
    for impossible in (Position(1, 0), Position(-1, 0), Position(0, -1)):
        with pytest.raises(errors.InvalidSetting, match="partitions are 0 to 0"):
            engine.wait_for(impossible, 0.01)


def test_the_last_life_of_a_key_ends_at_its_deadline_before_a_record_says_so(stage: Stage) -> None:
    engine = stage.open()
    assert engine.last_session_span(KEY) is None
    engine.open(KEY, policy=policy(idle_ttl="5m"))
    life = engine.last_session_span(KEY)
    assert life is not None
    assert (life.ended_at_ms, life.reason) == (None, None)
    stage.clock.advance(6 * MIN)
    due = engine.last_session_span(KEY)
    assert due is not None
    assert (due.ended_at_ms, due.reason, due.ended_offset) == (T0 + 5 * MIN, "idle", None)
    engine.prune()
    said = engine.last_session_span(KEY)
    assert said is not None
    assert (said.ended_at_ms, said.reason, said.ended_offset) == (T0 + 5 * MIN, "idle", 2)


def test_a_plan_is_carried_out_as_it_stands(stage: Stage) -> None:
    engine = stage.open(max_sessions=2)
    for number in range(4):
        engine.open(f"key-{number}")
        stage.clock.advance(S)
    plan = engine.prune(dry_run=True)
    assert [due.key for due in plan.due] == ["key-0", "key-1"]
    engine.touch("key-1")
    engine.execute_plan(plan)
    assert [session.key for session in engine.list().sessions] == ["key-2", "key-3", "key-1"]


def test_what_a_guard_keeps_alive_is_named(stage: Stage) -> None:
    engine = stage.open()
    for key in ("busy", "suspended", "fresh", "other"):
        engine.open(key, policy=policy(idle_ttl="5m"))
    engine.suspend("suspended")
    engine.suspend("other")
    engine.take_lease("busy", "job", 60 * MIN)
    stage.clock.advance(4 * MIN)
    engine.take_lease("fresh", "job", 60 * MIN)
    assert engine.guarded(10).total == 0
    stage.clock.advance(MIN)
    guarded = engine.guarded(2)
    assert [(each.key, each.guard, each.over_since_ms) for each in guarded.first] == [
        ("busy", "held", T0 + 5 * MIN), ("fresh", "held", T0 + 5 * MIN),
    ]  # fmt: skip
    assert guarded.total == 4
    assert [each.key for each in engine.guarded(9, prefix="s").first] == ["suspended"]


def test_a_refold_of_the_log_says_where_the_view_differs(stage: Stage) -> None:
    engine = stage.open()
    for number in range(5):
        engine.open(f"key-{number}")
    received: list[tuple[int, int]] = []
    assert engine.refold(lambda done, total: received.append((done, total))) == []
    assert received[-1] == (6, 6)
    engine._views.partitions[0].digest = bytes(32)
    (sentence,) = engine.refold()
    assert "partition 0" in sentence


def test_an_empty_prefix_does_not_mean_all(stage: Stage) -> None:
    engine = stage.open()
    for ask in (lambda prefix: engine.guarded(9, prefix), lambda prefix: engine.unused_since(0, prefix)):
        for computed in ("", None):
            with pytest.raises(errors.InvalidSetting, match="leave prefix out for any"):
                ask(computed)

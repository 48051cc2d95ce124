"""How far an engine has come, and how the last session of a key ended."""

from __future__ import annotations

import pytest
from stage import KEY, MIN, T0, Stage

from lastseen import Position, errors, policy


def test_a_position_is_reached_when_it_is_folded(on_disk: Stage) -> None:
    reader, writer = on_disk.open(), on_disk.open()
    assert reader.reached(0) == Position(0, -1)
    position = writer.open(KEY).position
    assert writer.reached(writer.partition_of(KEY)) == position
    assert (reader.has_reached(position), reader.lag()) == (False, {0: 1})
    assert reader.wait_for(position, 1)
    assert (reader.has_reached(position), reader.lag()) == (True, {0: 0})
    assert reader.get(KEY) is not None


def test_what_never_comes_is_waited_for_no_longer_than_asked(on_disk: Stage) -> None:
    engine = on_disk.open()
    assert not engine.wait_for(Position(0, 7), 0.01)
    for impossible in (Position(1, 0), Position(-1, 0), Position(0, -1)):
        with pytest.raises(errors.InvalidSetting, match="partitions are 0 to 0"):
            engine.wait_for(impossible, 0.01)


def test_the_last_life_of_a_key_ends_at_its_deadline_before_a_record_says_so(stage: Stage) -> None:
    engine = stage.open()
    assert engine.last_life(KEY) is None
    engine.open(KEY, policy=policy(idle_ttl="5m"))
    life = engine.last_life(KEY)
    assert life is not None
    assert (life.ended_at_ms, life.reason) == (None, None)
    stage.clock.advance(6 * MIN)
    due = engine.last_life(KEY)
    assert due is not None
    assert (due.ended_at_ms, due.reason, due.ended_offset) == (T0 + 5 * MIN, "idle", None)
    engine.prune()
    said = engine.last_life(KEY)
    assert said is not None
    assert (said.ended_at_ms, said.reason, said.ended_offset) == (T0 + 5 * MIN, "idle", 1)

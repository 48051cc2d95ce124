"""A clock that is set forward and back: what was seen over is never seen alive again, whichever way it is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lastseen
from lastseen.engine.errors import ClockSkew, LastseenError, SessionEnded, SessionNotFound

T0, MINUTE_MS, HOUR_MS = 1_700_000_000_000, 60_000, 3_600_000
KEYS = [f"key-{number}" for number in range(6)]


def engine_at(clock: lastseen.ManualClock, url: str = "memory://?partitions=3") -> lastseen.Engine:
    return lastseen.open_engine(url, clock=clock, background=False, idle_ttl="30m")


@pytest.fixture(params=["memory", "sqlite"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[lastseen.Engine, lastseen.ManualClock]]:
    """An engine with a session that is over by log time, and not by the clock: it was set back."""
    clock = lastseen.ManualClock(T0)
    url = f"sqlite:///{tmp_path / 'log.db'}?partitions=3" if request.param == "sqlite" else "memory://?partitions=3"
    with engine_at(clock, url) as engine:
        engine.open("over")
        clock.advance(HOUR_MS)
        others = [f"other-{number}" for number in range(20)]
        other = next(each for each in others if engine.partition_of(each) != engine.partition_of("over"))
        engine.open(other)
        assert engine.get("over") is None
        clock.advance(-HOUR_MS)
        yield engine, clock


def test_no_read_shows_it_alive(stage: tuple[lastseen.Engine, lastseen.ManualClock]) -> None:
    engine, clock = stage
    span = engine.last_session_span("over")
    assert span is not None
    assert engine.get("over") is None
    assert engine.get_by_id(span.session_id) is None
    assert "over" not in [view.key for view in engine.list().sessions]
    assert engine.messages("over") == []
    assert (span.reason, span.ended_at_ms) == ("idle", T0 + HOUR_MS // 2)
    assert engine.explain("over").status == "ended"
    assert engine._views.count(clock.now_ms()) == 1
    assert [due.key for due in engine.prune(dry_run=True).due] == ["over"]


def test_no_command_revives_it(stage: tuple[lastseen.Engine, lastseen.ManualClock]) -> None:
    engine, _ = stage
    for command in (engine.touch, engine.suspend, engine.rotate):
        with pytest.raises((SessionEnded, SessionNotFound)):
            command("over")
    with pytest.raises(SessionEnded):
        engine.touch("over", wait="none")
    [answer] = engine.touch_many(["over"])
    assert isinstance(answer, SessionEnded)
    with pytest.raises(ClockSkew):
        engine.open("over")  # a new one would begin, were the clock not an hour behind the log's


def test_it_is_announced(stage: tuple[lastseen.Engine, lastseen.ManualClock]) -> None:
    engine, _ = stage
    engine.prune()
    assert engine.count() == 1
    assert engine.statistics()["void"] == {}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("clock"), st.sampled_from([MINUTE_MS, 31 * MINUTE_MS, HOUR_MS, -MINUTE_MS, -HOUR_MS])),
        st.tuples(st.just("open"), st.sampled_from(KEYS)),
        st.tuples(st.just("touch"), st.sampled_from(KEYS)),
        st.tuples(st.just("prune"), st.just("")),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_what_log_time_has_ended_stays_ended(steps: list[tuple[str, object]]) -> None:
    clock, over = lastseen.ManualClock(T0), set[str]()
    with engine_at(clock) as engine:
        for step, what in steps:
            try:
                if step == "clock":
                    assert isinstance(what, int)
                    clock.advance(what)
                elif step == "prune":
                    engine.prune()
                else:
                    getattr(engine, step)(what)
            except LastseenError:
                pass  # refused: it has changed nothing
            log_ms = engine._views.log_time_ms()
            by_get = {view.session_id for key in KEYS if (view := engine.get(key)) is not None}
            by_list = {view.session_id for view in engine.list(limit=100).sessions}
            assert by_get == by_list
            assert not by_get & over
            assert engine._views.count(clock.now_ms()) == len(by_get)
            for key in KEYS:
                span = engine.last_session_span(key)
                if span is None:
                    continue
                is_alive = span.session_id in by_get
                assert (span.ended_at_ms is None) is is_alive
                assert (engine.get_by_id(span.session_id) is not None) is is_alive
                assert (engine.explain(key).status != "ended") is is_alive
                if span.ended_at_ms is not None and span.ended_at_ms <= log_ms:
                    over.add(span.session_id)

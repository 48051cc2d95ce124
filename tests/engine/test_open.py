"""Opening: touching in the same step, and limits that are given directly."""

from __future__ import annotations

from datetime import timedelta

import pytest
from stage import KEY, MIN, T0, S, Stage

from lastseen import errors, policy
from lastseen.engine.durations import limit_ms


def test_one_that_was_opened_with_a_touch_is_not_the_next_to_be_evicted(stage: Stage) -> None:
    engine = stage.open(max_sessions=80)
    users = [f"user:{number}" for number in range(80)]
    for user in users:
        engine.open(user)
        stage.clock.advance(S)
    for number, user in enumerate(users[:20]):
        engine.open(user, touch=True)
        engine.open(f"late:{number}")
        engine.prune()
        assert engine.touch(user) is not None
    assert engine.count() == 80


def test_opening_with_a_touch_is_one_record_and_restarts_the_idle_clock(stage: Stage) -> None:
    engine = stage.open(idle_ttl="30m")
    first = engine.open(KEY, touch=True)
    assert (first.version, first.deadline_ms) == (1, T0 + 30 * MIN)
    stage.clock.advance(MIN)
    again = engine.open(KEY, touch=True)
    assert (again.session_id, again.version, again.deadline_ms) == (first.session_id, 2, T0 + 31 * MIN)
    assert [entry.name for entry in engine.history(KEY)] == ["created", "touched"]
    assert engine.open(KEY).version == 2
    stage.clock.advance(31 * MIN)
    assert engine.open(KEY, touch=True).session_id != first.session_id


def test_a_suspended_session_and_one_touched_a_moment_ago_are_opened_as_they_are(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY)
    engine.suspend(KEY)
    assert engine.open(KEY, touch=True).version == 2
    engine.open("precise", policy=policy(touch_precision="10s"))
    stage.clock.advance(S)
    assert engine.open("precise", touch=True).version == 1
    stage.clock.advance(10 * S)
    assert engine.open("precise", touch=True).version == 2


def test_limits_are_given_directly(stage: Stage) -> None:
    engine = stage.open(idle_ttl="30m", max_age="7d")
    opened = engine.open(KEY, idle_ttl="1h30m", suspend_ttl=timedelta(days=2))
    assert (opened.policy.idle_ttl_ms, opened.policy.suspend_ttl_ms) == (90 * MIN, 2 * 24 * 60 * MIN)
    assert opened.policy.max_age_ms == 7 * 24 * 60 * MIN
    created = engine.create("other", idle_ttl=None, max_age=" 1h 30m ", policy=policy(idle_ttl="5m"))
    assert (created.policy.idle_ttl_ms, created.policy.max_age_ms) == (None, 90 * MIN)


@pytest.mark.parametrize("bare", [1800, 1800.0, 0, 1_800_000])
def test_a_bare_number_is_refused_with_the_units_to_write(stage: Stage, bare: float) -> None:
    engine = stage.open()
    for begin in (engine.open, engine.create):
        with pytest.raises(errors.InvalidSetting, match=f"write '{bare}s' for seconds or '{bare}ms' for milliseconds"):
            begin(KEY, idle_ttl=bare)  # type: ignore[arg-type]
    assert engine.get(KEY) is None


@pytest.mark.parametrize("wrong", ["", "30", "30m1h", "1h30", "0s", "-5m", "5 fortnights", "1h1h", True, timedelta(0)])
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(errors.InvalidSetting, match="idle_ttl = "):
        limit_ms("idle_ttl", wrong)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("1h30m", 5_400_000), ("1.5h", 5_400_000), ("250ms", 250), ("1w2d3h4m5s6ms", 788_645_006), ("2s500ms", 2_500)],
)
def test_durations_of_several_units(text: str, milliseconds: int) -> None:
    assert limit_ms("idle_ttl", text) == milliseconds
    assert policy(idle_ttl=text).idle_ttl_ms == milliseconds
    assert policy(idle_ttl=timedelta(milliseconds=milliseconds)).idle_ttl_ms == milliseconds

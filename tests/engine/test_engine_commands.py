"""Every command: given a session in some state, when it is called, then the session and the log are so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from stage import HOUR, KEY, MIN, T0, LogBetween, S, Stage

import lastseen
from lastseen import Engine, ManualClock, Settings, Status, errors, policy
from lastseen.engine.commands import Commands
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Position
from tests.patience import PATIENCE_S, eventually


def ends(engine: Engine) -> list[int]:
    """How many records each partition has after its genesis record."""
    return [end - 1 for end in engine._log.end_offsets()]


# ── open, create ──


def test_open_makes_a_session_where_none_lives(engine: Engine) -> None:
    session = engine.open(KEY, attributes={"owner": "ana", "n": 1})
    assert (session.key, session.version, session.status) == (KEY, 1, Status.ACTIVE)
    assert (session.created_at_ms, session.last_active_at_ms) == (T0, T0)
    assert (session.deadline_ms, session.deadline_reason) == (T0 + 30 * MIN, "idle")
    assert session.attributes == {"owner": "ana", "n": 1}
    assert session.owner == "ana"
    assert len(session.session_id) == 22
    assert ends(engine) == [1]


def test_open_returns_a_live_session_and_does_not_touch_it(engine: Engine, clock: ManualClock) -> None:
    first = engine.open(KEY, attributes={"n": 1})
    clock.advance(29 * MIN)
    again = engine.open(KEY, attributes={"n": 2})
    assert again.as_dict() == first.as_dict()
    assert ends(engine) == [1]


def test_open_begins_anew_where_the_session_is_due(engine: Engine, clock: ManualClock) -> None:
    first = engine.open(KEY)
    clock.advance(30 * MIN)
    second = engine.open(KEY)
    assert second.session_id != first.session_id
    assert [life.reason for life in engine.session_spans(KEY)] == ["idle", None]
    assert engine.session_spans(KEY)[0].ended_at_ms == T0 + 30 * MIN


def test_open_returns_a_suspended_session_as_it_is(engine: Engine) -> None:
    first = engine.open(KEY)
    engine.suspend(KEY)
    again = engine.open(KEY)
    assert (again.session_id, again.status) == (first.session_id, Status.SUSPENDED)


def test_create_takes_an_id_and_a_policy(engine: Engine) -> None:
    chosen = policy(idle_ttl="1m", max_age="2h", max_messages=5)
    session = engine.create(KEY, policy=chosen, session_id="chosen-by-the-caller-01")
    assert session.session_id == "chosen-by-the-caller-01"
    assert session.policy == chosen
    assert session.deadline_ms == T0 + MIN
    assert engine.get_by_id("chosen-by-the-caller-01") is not None
    assert engine.get_by_id("chosen-by-the-caller-02") is None


# ── touch, update, touch_many ──


def test_touch_restarts_the_idle_clock(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY)
    clock.advance(10 * MIN)
    session = engine.touch(KEY)
    assert session is not None
    assert (session.version, session.last_active_at_ms, session.deadline_ms) == (2, T0 + 10 * MIN, T0 + 40 * MIN)


def test_touch_carries_a_patch_a_message_and_new_limits(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY, attributes={"owner": "ana", "deep": {"a": 1, "b": 2}})
    clock.advance(S)
    session = engine.touch(
        KEY, attributes={"owner": None, "deep": {"a": None}}, message={"text": "hi"}, policy=policy(idle_ttl="1h")
    )
    assert session is not None
    assert (session.attributes, session.owner) == ({"deep": {"b": 2}}, None)
    assert session.deadline_ms == T0 + S + HOUR
    assert [message.value for message in engine.messages(KEY)] == [{"text": "hi"}]
    assert engine.messages(KEY)[0].at_ms == T0 + S


@pytest.mark.parametrize("message", [0, False, "", [], {}, "text", 1.5, [None]])
def test_every_json_value_but_null_is_a_message(engine: Engine, message: object) -> None:
    engine.open(KEY)
    engine.touch(KEY, message=message)
    assert len(engine.messages(KEY)) == 1


def test_update_is_a_touch_with_a_patch(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY, attributes={"n": 1})
    clock.advance(MIN)
    session = engine.update(KEY, {"n": 2, "m": [1]})
    assert (session.attributes, session.last_active_at_ms) == ({"n": 2, "m": [1]}, T0 + MIN)


def test_touch_need_not_wait_for_the_fold(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY)
    clock.advance(MIN)
    assert engine.touch(KEY, wait="appended") is None
    assert ends(engine) == [2]
    assert engine.touch(KEY, wait="none") is None
    assert engine._log.wait(Position(0, 3), PATIENCE_S)
    assert engine.refresh() == 2
    session = engine.get(KEY)
    assert session is not None
    assert session.version == 3


def test_touch_many_answers_for_each_key(engine: Engine, clock: ManualClock) -> None:
    engine.open("live")
    engine.open("suspended")
    engine.suspend("suspended")
    engine.open("brief", policy=policy(idle_ttl="1m"))
    clock.advance(MIN)
    before = ends(engine)
    live, again, suspended, absent, over, bad = engine.touch_many(["live", "live", "suspended", "absent", "brief", ""])
    assert isinstance(live, lastseen.SessionView)
    assert isinstance(again, lastseen.SessionView)
    assert (live.last_active_at_ms, again.version) == (T0 + MIN, 3)
    refused = [type(error) for error in (suspended, absent, over, bad)]
    assert refused == [errors.SessionSuspended, errors.SessionNotFound, errors.SessionEnded, errors.InvalidKey]
    assert ends(engine) == [before[0] + 2]
    assert engine.touch_many(["live"], wait="appended") == [None]


def test_touch_many_may_name_the_very_sessions_that_are_meant(engine: Engine) -> None:
    old, now = engine.open("a").session_id, engine.rotate("a").session_id
    before = ends(engine)
    meant, any_of_them, ended, stale = engine.touch_many([("a", now), ("a", None), ("a", old), ("a", "x" * 22)])
    assert [type(each) for each in (ended, stale)] == [errors.SessionEnded, errors.StaleSession]
    assert [each.version for each in (meant, any_of_them)] == [3, 3], "as it is after both"  # type: ignore[union-attr]
    wrong: list[Any] = [("a",), ("a", now, 1), ("a", 7), 7, None, ["a", now]]
    assert {type(each) for each in engine.touch_many(wrong)} == {errors.InvalidKey, lastseen.SessionView}
    assert ends(engine) == [before[0] + 3], "a list of two is a pair as well"
    assert engine.touch_many([]) == []


def test_plain_touches_within_the_precision_are_not_written(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY, policy=policy(idle_ttl="30m", touch_precision="10s"))
    for _ in range(9):
        clock.advance(S)
        session = engine.touch(KEY)
        assert session is not None
        assert (session.version, session.last_active_at_ms) == (1, T0)
        assert engine.touch_many([KEY])[0].version == 1  # type: ignore[union-attr]
    assert ends(engine) == [1]
    clock.advance(S)
    assert engine.touch(KEY).version == 2  # type: ignore[union-attr]
    assert engine.touch(KEY, wait="appended") is None
    assert ends(engine) == [2]
    # What says more than "still here" is always written.
    engine.touch(KEY, message="hi")
    engine.touch(KEY, attributes={})
    engine.touch(KEY, policy=policy(idle_ttl="30m", touch_precision="10s"))
    engine.touch(KEY, if_version=5)
    assert ends(engine) == [6]


def test_coalesced_touches_do_not_cost_a_session_its_life(engine: Engine, clock: ManualClock) -> None:
    session = engine.open(KEY, policy=policy(idle_ttl="30m", touch_precision="10s"))
    assert session.deadline_ms == T0 + 30 * MIN + 10 * S
    clock.advance(10 * S - 1)
    engine.touch(KEY)  # not written, and yet good for 30 minutes
    clock.advance(30 * MIN)
    assert engine.get(KEY) is not None
    clock.advance(1)
    assert engine.get(KEY) is None


# ── suspend, resume ──


def test_a_suspended_session_neither_idles_nor_ages(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY, policy=policy(idle_ttl="30m", max_age="1h", suspend_ttl="7d"))
    clock.advance(20 * MIN)
    suspended = engine.suspend(KEY, reason="lunch")
    assert (suspended.status, suspended.deadline_ms, suspended.deadline_reason) == (
        Status.SUSPENDED, T0 + 20 * MIN + 7 * 24 * HOUR, "suspend_ttl",
    )  # fmt: skip
    clock.advance(24 * HOUR)
    back = engine.resume(KEY, reason="coffee")
    assert (back.status, back.last_active_at_ms) == (Status.ACTIVE, T0 + 20 * MIN + 24 * HOUR)
    assert (back.deadline_ms, back.deadline_reason) == (back.last_active_at_ms + 30 * MIN, "idle")
    for _ in range(2):
        clock.advance(15 * MIN)
        back = engine.touch(KEY) or back
    assert (back.deadline_ms, back.deadline_reason) == (T0 + 25 * HOUR, "max_age")
    assert [entry.reason for entry in engine.history(KEY)[1:3]] == ["lunch", "coffee"]


# ── hold, take_lease, release ──


def test_a_lease_keeps_a_session_until_it_lapses(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY)
    clock.advance(29 * MIN)
    held = engine.take_lease(KEY, "job", 10 * MIN)
    assert (held.holders, held.deadline_ms) == ({"job": T0 + 39 * MIN}, T0 + 39 * MIN)
    clock.advance(10 * MIN - 1)
    assert engine.get(KEY) is not None
    clock.advance(1)
    assert engine.get(KEY) is None


def test_a_lease_is_no_longer_than_the_policy_allows(engine: Engine) -> None:
    engine.open(KEY, policy=policy(idle_ttl="30m", max_hold="40m"))
    assert engine.take_lease(KEY, "job", 90 * MIN).deadline_ms == T0 + 40 * MIN


def test_release_gives_the_lease_up(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY)
    engine.take_lease(KEY, "a", 50 * MIN)
    engine.take_lease(KEY, "b", 40 * MIN)
    assert engine.release(KEY, "a").deadline_ms == T0 + 40 * MIN
    assert engine.release(KEY, "b").deadline_ms == T0 + 30 * MIN


class Hears:
    """Lets a test wait until an engine has taken a lease so many times."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        self.changed = threading.Condition()
        take = engine.take_lease

        def heard(*given: object) -> object:
            try:
                return take(*given)  # type: ignore[arg-type]
            finally:
                with self.changed:
                    self.taken += 1
                    self.changed.notify_all()

        monkeypatch.setattr(engine, "take_lease", heard)

    def wait(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.taken >= count, PATIENCE_S)


def test_hold_renews_its_lease_while_the_block_runs(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.open(KEY, policy=policy(idle_ttl="1m"))
    hears = Hears(engine, monkeypatch)
    with engine.hold(KEY, lease_ms=3 * MIN) as hold:
        assert hold.session is not None
        assert hold.session.holders == {hold.holder: T0 + 3 * MIN}
        for renewal in range(1, 6):
            clock.advance(MIN)
            hears.wait(1 + renewal)
            assert engine.get(KEY).holders == {hold.holder: T0 + (3 + renewal) * MIN}  # type: ignore[union-attr]
    assert hold.lost is None
    assert hears.taken == 6
    assert [entry.name for entry in engine.history(KEY)] == ["created", *["held"] * 6, "released"]
    assert engine.get(KEY) is None  # it would have idled out long ago


def test_a_hold_that_loses_its_session_says_why(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.open(KEY)
    hears = Hears(engine, monkeypatch)
    with engine.hold(KEY, holder="job", lease_ms=3 * MIN) as hold:
        engine.close(KEY, reason="revoked")
        clock.advance(MIN)
        hears.wait(2)
        assert eventually(lambda: hold.lost is not None)
    assert isinstance(hold.lost, errors.SessionEnded)
    assert [entry.name for entry in engine.history(KEY)] == ["created", "held", "closed"]


def test_a_hold_whose_job_died_lapses_by_itself(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY, policy=policy(idle_ttl="1m"))
    engine.take_lease(KEY, "a job that dies", 5 * MIN)
    clock.advance(5 * MIN)
    assert [due.reason for due in engine.prune().due] == ["idle"]
    assert engine.session_spans(KEY)[0].ended_at_ms == T0 + 5 * MIN


def test_a_failing_block_releases_its_hold_and_fails(engine: Engine) -> None:
    engine.open(KEY)
    with pytest.raises(ZeroDivisionError), engine.hold(KEY):
        raise ZeroDivisionError
    assert engine.get(KEY).holders == {}  # type: ignore[union-attr]


# ── close, rotate ──


def test_close_ends_the_session_held_or_not(engine: Engine, clock: ManualClock) -> None:
    first = engine.open(KEY)
    engine.take_lease(KEY, "job", MIN)
    clock.advance(S)
    assert engine.close(KEY, reason="logout") is None
    assert engine.get(KEY) is None
    assert engine.get_by_id(first.session_id) is None
    (life,) = engine.session_spans(KEY)
    assert (life.session_id, life.began_at_ms, life.ended_at_ms, life.reason) == (
        first.session_id, T0, T0 + S, "logout",
    )  # fmt: skip


def test_rotate_carries_attributes_and_limits_over(engine: Engine) -> None:
    first = engine.open(KEY, attributes={"owner": "ana"}, policy=policy(idle_ttl="5m"))
    engine.touch(KEY, message="old")
    second = engine.rotate(KEY)
    assert second.session_id != first.session_id
    assert (second.version, second.attributes, second.policy) == (1, {"owner": "ana"}, first.policy)
    assert engine.messages(KEY) == []
    assert [(life.reason, life.ended_offset) for life in engine.session_spans(KEY)] == [("rotated", 3), (None, None)]
    assert engine.count() == 1


def test_rotate_may_give_new_ones(engine: Engine) -> None:
    engine.open(KEY, attributes={"owner": "ana"})
    engine.suspend(KEY)
    second = engine.rotate(KEY, reason="reset", attributes={}, policy=policy(idle_ttl="1m"))
    assert (second.attributes, second.status, second.deadline_ms) == ({}, Status.ACTIVE, T0 + MIN)
    assert engine.session_spans(KEY)[0].reason == "reset"


# ── the loop ──


Rivals = tuple[Engine, LogBetween, Engine]


@pytest.fixture
def rivals() -> Iterator[Rivals]:
    """An engine whose appends can be preceded by another engine's, and that other engine."""
    clock = ManualClock(T0)
    log = MemoryLog(clock, genesis=True)
    between = LogBetween(log)
    chosen = Settings.of(background=False)
    with Engine(between, clock, chosen) as ours, Engine(log, clock, chosen) as other:
        yield ours, between, other


def test_a_command_is_decided_again_when_the_session_changed_meanwhile(rivals: Rivals) -> None:
    ours, between, other = rivals
    between.before_append = [lambda: other.open(KEY, attributes={"by": "other"})]
    assert ours.open(KEY).attributes == {"by": "other"}
    assert [entry.verdict.label for entry in ours.history(KEY)] == ["applied", "exists"]


def test_what_it_decides_again_is_judged_by_the_new_state(rivals: Rivals) -> None:
    ours, between, other = rivals
    ours.open(KEY)
    other.refresh()
    between.before_append = [lambda: other.close(KEY)]
    with pytest.raises(errors.SessionEnded):
        ours.touch(KEY)
    ours.open(KEY)
    other.refresh()
    between.before_append = [lambda: other.suspend(KEY)]
    with pytest.raises(errors.SessionSuspended):
        ours.touch(KEY)


def test_a_touch_follows_a_session_that_was_rotated_meanwhile(rivals: Rivals) -> None:
    ours, between, other = rivals
    ours.open(KEY)
    other.refresh()
    between.before_append = [lambda: other.rotate(KEY)]
    touched = ours.touch(KEY)
    assert touched is not None
    assert touched.session_id == other.get(KEY).session_id  # type: ignore[union-attr]
    assert [entry.verdict.label for entry in ours.history(KEY)] == ["applied", "applied", "stale_session", "applied"]


def test_a_pinned_command_is_not_decided_again(rivals: Rivals) -> None:
    ours, between, other = rivals
    session = ours.open(KEY)
    other.refresh()
    between.before_append = [lambda: other.touch(KEY)]
    with pytest.raises(errors.VersionConflict):
        ours.touch(KEY, if_version=1)
    between.before_append = [lambda: other.rotate(KEY)]
    with pytest.raises(errors.StaleSession):
        ours.touch(KEY, session_id=session.session_id)


def test_rotate_carries_over_what_was_written_meanwhile(rivals: Rivals) -> None:
    ours, between, other = rivals
    ours.open(KEY, attributes={"n": 1})
    other.refresh()
    between.before_append = [lambda: other.update(KEY, {"n": 2})]
    assert ours.rotate(KEY).attributes == {"n": 2}
    between.before_append = [lambda: other.update(KEY, {"n": 3})]
    with pytest.raises(errors.VersionConflict):
        ours.rotate(KEY, if_version=1)


def test_a_session_that_keeps_changing_ends_in_an_error(rivals: Rivals) -> None:
    ours, between, other = rivals
    ours.open(KEY)

    def rotate() -> None:
        other.refresh()
        other.rotate(KEY)

    between.before_append = [rotate] * 100
    with pytest.raises(errors.VersionConflict, match="changed 8 times"):
        ours.touch(KEY)
    assert len(between.before_append) == 92


def test_a_log_with_another_clock_refuses_what_it_cannot_believe() -> None:
    ours, log_clock = ManualClock(T0), ManualClock(T0)
    with Engine(MemoryLog(log_clock, genesis=True), ours, Settings.of(background=False)) as engine:
        engine.open(KEY, policy=policy())
        ours.advance(MIN + 1)
        with pytest.raises(errors.ClockSkew):
            engine.touch(KEY)
        ours.advance(-11 * MIN - 2)
        with pytest.raises(errors.ClockSkew):
            engine.touch(KEY)
        assert engine.get(KEY).version == 1  # type: ignore[union-attr]


# ── two services ──


def test_two_engines_that_open_the_same_keys_at_once_get_the_same_sessions(on_disk: Stage) -> None:
    first, second = on_disk.open(), on_disk.open(snapshot=str(on_disk.folder / "second.snapshot"))
    keys = [f"key-{number}" for number in range(200)]
    ready = threading.Barrier(4)

    def open_all(engine: Engine, order: list[str]) -> dict[str, str]:
        ready.wait(PATIENCE_S)
        return {key: engine.open(key).session_id for key in order}

    with ThreadPoolExecutor(4) as pool:
        futures = [
            pool.submit(open_all, engine, order) for engine in (first, second) for order in (keys, keys[::-1])
        ]  # fmt: skip
        answers = [future.result(PATIENCE_S) for future in futures]
    assert all(answer == answers[0] for answer in answers)
    first.refresh()
    second.refresh()
    assert first.count() == second.count() == 200
    assert first.checkpoints() == second.checkpoints()


def test_an_answer_reflects_the_callers_own_write(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY, attributes={"n": 0})
    callers, calls = 4, 25

    def write(caller: int) -> None:
        for number in range(calls):
            view = engine.update(KEY, {f"by-{caller}": number})
            assert view.attributes[f"by-{caller}"] == number
            seen = engine.get(KEY)
            assert seen is not None
            assert seen.version >= view.version

    with ThreadPoolExecutor(callers) as pool:
        for future in [pool.submit(write, caller) for caller in range(callers)]:
            future.result(PATIENCE_S)
    session = engine.get(KEY)
    assert session is not None
    assert session.version == 1 + callers * calls
    assert session.attributes == {"n": 0, **{f"by-{caller}": calls - 1 for caller in range(callers)}}


def test_every_public_command_is_held_here() -> None:
    commands = {name for name in vars(Commands) if not name.startswith("_")}
    assert commands == {
        "open", "create", "rotate", "touch", "update", "touch_many", "suspend", "resume", "hold", "take_lease",
        "release", "close", "close_many", "suspend_many", "resume_many",
    }  # fmt: skip

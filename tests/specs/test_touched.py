"""`touched`: applies to an active session; restarts the idle clock, and may carry state, a message, new limits."""

from __future__ import annotations

import pytest

from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict
from tests.specs.given import EPOCH_MS, MIN, A, B, S, given

IDLE = Policy(idle_ttl_ms=MIN)


def test_a_touch_restarts_the_idle_clock() -> None:
    history = given().created(A, policy=IDLE).when.at(10 * S).touched().then().is_live(A, version=2)
    history.is_due_at(MIN + 10 * S, "idle")
    assert history.session.last_active_offset == 1


def test_a_suspended_session_is_not_touched() -> None:
    given().created(A, policy=IDLE).suspended().when.touched().then(Verdict.SUSPENDED).nothing_changed()


def test_a_touch_without_a_session_is_void() -> None:
    given().of(A).touched().then(Verdict.NO_SESSION).is_gone()


def test_a_stale_id_touches_no_session() -> None:
    given().created(A).when.touched(session_id=B).then(Verdict.STALE_SESSION).nothing_changed()


def test_an_ended_id_is_stale_where_another_lives_and_ended_where_none_does() -> None:
    given().created(A).closed().when.touched().then(Verdict.ENDED).is_gone()
    given().created(A).closed().created(B).when.touched(session_id=A).then(Verdict.STALE_SESSION).nothing_changed()


def test_a_touch_with_another_version_is_void() -> None:
    given().created(A).when.touched(if_version=2).then(Verdict.VERSION_CONFLICT).nothing_changed()
    given().created(A).when.touched(if_version=1).then().is_live(A, version=2)


def test_a_version_conflict_is_said_before_suspended() -> None:
    given().created(A).suspended().when.touched(if_version=1).then(Verdict.VERSION_CONFLICT)


def test_a_touch_of_an_earlier_log_time_does_not_turn_the_idle_clock_back() -> None:
    history = given().created(A, policy=IDLE).at(30 * S).touched().when.at(20 * S).touched().then()
    history.is_live(A, version=3).is_due_at(MIN + 30 * S, "idle")


def test_a_touch_may_bring_new_limits() -> None:
    history = given().created(A, policy=IDLE).when.at(S).touched(policy=Policy(idle_ttl_ms=5 * S))
    history.is_due_at(6 * S, "idle")
    history.at(6 * S).expired().then().has_ended(A, "idle", at_ms=6 * S)


def test_new_limits_are_in_the_wheel_of_deadlines_at_once() -> None:
    history = given().created(A, policy=Policy(idle_ttl_ms=100 * MIN)).when.at(S).touched(policy=IDLE)
    history.partition.deadlines.due(EPOCH_MS, 9)
    assert [s.session_id for s in history.partition.deadlines.due(EPOCH_MS + S + MIN, 9)] == [A]


def test_a_touch_makes_the_session_the_most_recently_used() -> None:
    history = given().created(A).of(B, "other").created().of(A).when.touched()
    assert [session.session_id for session in history.partition.active.values()] == [B, A]


def test_a_touch_may_change_the_owner() -> None:
    history = given().created(A, attributes={"owner": "u1"}).touched(attributes={"mood": 1})
    assert history.session.owner == "u1"
    history.touched(attributes={"owner": "u2"})
    assert history.session.owner == "u2"
    assert set(history.partition.by_owner) == {"u2"}
    history.touched(attributes={"owner": None})
    assert history.session.owner is None
    assert not history.partition.by_owner


@pytest.mark.parametrize("owner", ["", 5, None, "x" * 513, ["u1"]])
def test_what_is_no_name_owns_nothing(owner: object) -> None:
    assert given().created(A, attributes={"owner": owner}).then().session.owner is None

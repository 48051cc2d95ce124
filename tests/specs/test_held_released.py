"""`held` / `released`: a lease keeps a busy session from idling out; it lapses by itself if the job dies."""

from __future__ import annotations

import pytest

from lastseen.engine.session import HOUR_MS, Policy
from lastseen.engine.verdicts import Verdict
from tests.specs.given import EPOCH_MS, HOUR, MIN, A, B, History, S, given

IDLE = Policy(idle_ttl_ms=MIN, max_hold_ms=10 * MIN)


def full() -> History:
    history = given().created(A, policy=IDLE)
    for number in range(16):
        history.held(f"job-{number}", 5 * MIN)
    return history.when


def test_a_hold_moves_the_idle_limit() -> None:
    given().created(A, policy=IDLE).when.at(S).held(lease_ms=2 * MIN).then().is_live(A, 2).is_due_at(
        S + 2 * MIN, "idle"
    )


def test_a_hold_is_no_activity() -> None:
    history = given().created(A, policy=IDLE).of(B, "other").created().of(A).when.at(S).held(lease_ms=2 * S)
    history.is_due_at(MIN, "idle")
    assert [session.session_id for session in history.partition.active.values()] == [A, B]
    assert history.session.last_active_offset == 0


def test_a_hold_does_not_move_max_age() -> None:
    history = given().created(A, policy=Policy(idle_ttl_ms=MIN, max_age_ms=2 * MIN)).held(lease_ms=30 * MIN)
    history.is_due_at(2 * MIN, "max_age")


def test_a_hold_alone_sets_no_limit() -> None:
    given().created(A, policy=Policy()).held(lease_ms=S).is_due_at(None, None)


def test_the_latest_lease_counts() -> None:
    given().created(A, policy=IDLE).held("a", 5 * MIN).held("b", 3 * MIN).is_due_at(5 * MIN, "idle")


def test_a_lease_is_cut_to_max_hold() -> None:
    given().created(A, policy=IDLE).held(lease_ms=HOUR).is_due_at(10 * MIN, "idle")
    given().created(A, policy=Policy(idle_ttl_ms=MIN)).held(lease_ms=2 * HOUR).is_due_at(HOUR_MS, "idle")
    unlimited = Policy(idle_ttl_ms=MIN, max_hold_ms=None)
    given().created(A, policy=unlimited).held(lease_ms=2 * HOUR).is_due_at(2 * HOUR, "idle")


def test_a_lease_lapses_by_itself() -> None:
    history = given().created(A, policy=IDLE).held(lease_ms=2 * MIN).when.at(2 * MIN - 1).touched().then()
    history.is_due_at(3 * MIN - 1, "idle")
    again = given().created(A, policy=IDLE).held(lease_ms=2 * MIN).when.at(2 * MIN).touched()
    again.then(Verdict.ENDED).has_ended(A, "idle", at_ms=2 * MIN)


def test_a_holder_renews_its_lease() -> None:
    given().created(A, policy=IDLE).held(lease_ms=2 * MIN).when.at(MIN).held(lease_ms=2 * MIN).is_due_at(
        3 * MIN, "idle"
    )


def test_a_holder_may_shorten_its_lease() -> None:
    given().created(A, policy=IDLE).held(lease_ms=5 * MIN).when.at(S).held(lease_ms=2 * MIN).is_due_at(
        S + 2 * MIN, "idle"
    )


def test_a_shortened_lease_is_in_the_wheel_of_deadlines_at_once() -> None:
    history = given().created(A, policy=IDLE).held(lease_ms=9 * MIN).when.held(lease_ms=2 * MIN)
    assert history.partition.deadlines.due(EPOCH_MS + 2 * MIN - 1, 9) == []
    assert history.partition.deadlines.due(EPOCH_MS + 2 * MIN, 9) == [history.session]


def test_sixteen_jobs_may_hold_a_session_and_no_more() -> None:
    full().held("job-16").then(Verdict.TOO_MANY).nothing_changed()


def test_a_holder_renews_although_the_session_is_full() -> None:
    full().held("job-3").then()


def test_a_lapsed_lease_gives_its_place_back() -> None:
    history = given().created(A, policy=IDLE)
    for number in range(15):
        history.held(f"job-{number}", 5 * MIN)
    history.held("job-15", 2 * MIN)
    history.at(2 * MIN - 1).held("job-16").then(Verdict.TOO_MANY)
    history.at(2 * MIN).held("job-16").then()
    assert len(history.session.leases or {}) == 16


def test_a_released_lease_is_gone() -> None:
    history = given().created(A, policy=IDLE).held("a", 5 * MIN).held("b", 2 * MIN).when.at(S).released("a").then()
    history.is_live(A, version=4).is_due_at(2 * MIN, "idle")
    history.released("b").then().is_due_at(MIN, "idle")


def test_who_holds_nothing_releases_nothing() -> None:
    given().created(A).when.released("a").then(Verdict.ALREADY).nothing_changed()
    given().created(A).held("a").when.released("b").then(Verdict.ALREADY).nothing_changed()
    given().created(A).held("a").released("a").when.released("a").then(Verdict.ALREADY).nothing_changed()


def test_a_suspended_session_is_not_held_and_has_nothing_to_release() -> None:
    given().created(A).suspended().when.held().then(Verdict.SUSPENDED).nothing_changed()
    given().created(A).held("a").suspended().when.released("a").then(Verdict.ALREADY).nothing_changed()


@pytest.mark.parametrize("what", ["held", "released"])
def test_general_checks_come_first(what: str) -> None:
    getattr(given().of(A), what)().then(Verdict.NO_SESSION)
    getattr(given().created(A), what)(session_id=B).then(Verdict.STALE_SESSION).nothing_changed()
    getattr(given().created(A).closed(), what)().then(Verdict.ENDED)
    getattr(given().created(A), what)(if_version=5).then(Verdict.VERSION_CONFLICT).nothing_changed()

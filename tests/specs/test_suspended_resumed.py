"""`suspended` / `resumed`: set aside on purpose, exempt from idle expiry; back again, the suspended time not
counted."""

from __future__ import annotations

import pytest

from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict
from tests.specs.given import MIN, A, B, S, given

LIMITS = Policy(idle_ttl_ms=MIN, max_age_ms=5 * MIN, suspend_ttl_ms=3 * MIN)


def test_an_active_session_is_suspended() -> None:
    history = given().created(A, policy=LIMITS).when.at(S).suspended().then().is_live(A, version=2, status="suspended")
    history.is_due_at(S + 3 * MIN, "suspend_ttl")
    assert list(history.partition.suspended) == [history.session.key]
    assert not history.partition.active


def test_a_suspended_session_is_not_suspended_again() -> None:
    history = given().created(A, policy=LIMITS).at(S).suspended().when.at(2 * S).suspended()
    history.then(Verdict.ALREADY).nothing_changed().is_due_at(S + 3 * MIN, "suspend_ttl")


def test_suspending_drops_the_holds() -> None:
    history = given().created(A).held("job").suspended().then()
    assert not history.session.leases
    history.resumed().released("job").then(Verdict.ALREADY)


def test_a_suspended_session_does_not_idle_out() -> None:
    given().created(A, policy=Policy(idle_ttl_ms=MIN)).suspended().when.at(90 * MIN).resumed().then()


def test_a_suspended_session_does_not_age() -> None:
    history = given().created(A, policy=LIMITS).at(10 * S).suspended().when.at(10 * S + 2 * MIN).resumed().then()
    history.is_live(A, version=3).is_due_at(10 * S + 3 * MIN, "idle")
    assert history.session.suspended_ms == 2 * MIN
    for second in range(160, 420, 30):
        history.at(second * S).touched().then()
    history.at(7 * MIN - 1).touched().then().is_due_at(7 * MIN, "max_age")
    history.at(7 * MIN).touched().then(Verdict.ENDED).has_ended(A, "max_age", at_ms=7 * MIN)


def test_time_spent_suspended_adds_up() -> None:
    history = given().created(A, policy=Policy(max_age_ms=MIN))
    history.at(S).suspended().at(3 * S).resumed().at(4 * S).suspended().at(9 * S).resumed()
    history.is_due_at(MIN + 7 * S, "max_age")


def test_a_suspended_session_ends_at_its_own_limit() -> None:
    history = given().created(A, policy=LIMITS).at(S).suspended().when.at(S + 3 * MIN).resumed()
    history.then(Verdict.ENDED).has_ended(A, "suspend_ttl", at_ms=S + 3 * MIN)


def test_without_that_limit_it_stays() -> None:
    history = given().created(A, policy=Policy(idle_ttl_ms=S, max_age_ms=S)).suspended()
    history.is_due_at(None, None).at(10**12).resumed().then()


def test_resuming_counts_as_activity() -> None:
    history = given().created(A, policy=LIMITS).of(B, "other").created().of(A).at(S).suspended().when.at(2 * S)
    history.resumed().then().is_due_at(2 * S + MIN, "idle")
    assert [session.session_id for session in history.partition.active.values()] == [B, A]
    assert history.session.last_active_offset == 3


def test_an_active_session_is_not_resumed() -> None:
    given().created(A).when.resumed().then(Verdict.ALREADY).nothing_changed()


def test_a_resumption_of_an_earlier_log_time_takes_no_time_away() -> None:
    history = given().created(A, policy=LIMITS).at(30 * S).suspended().when.at(20 * S).resumed().then()
    assert history.session.suspended_ms == 0


@pytest.mark.parametrize("what", ["suspended", "resumed"])
def test_general_checks_come_first(what: str) -> None:
    getattr(given().of(A), what)().then(Verdict.NO_SESSION)
    getattr(given().created(A), what)(session_id=B).then(Verdict.STALE_SESSION).nothing_changed()
    getattr(given().created(A).closed(), what)().then(Verdict.ENDED)
    getattr(given().created(A), what)(if_version=5).then(Verdict.VERSION_CONFLICT).nothing_changed()


def test_a_reason_may_be_given() -> None:
    given().created(A).suspended(reason="lunch").then().resumed(reason="back").then()

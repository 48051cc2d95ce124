"""`expired`: by time, only what its own record settled; by pressure, unless held. `closed`: whatever lives."""

from __future__ import annotations

import pytest

from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict
from tests.specs.given import MIN, A, B, S, given

IDLE = Policy(idle_ttl_ms=MIN)
TIMED = ["idle", "max_age", "suspend_ttl"]
PRESSED = ["capacity", "memory"]


# ── by time ──


@pytest.mark.parametrize("reason", TIMED)
def test_a_due_session_ends_at_its_deadline_for_the_reason_of_its_limit(reason: str) -> None:
    history = given().created(A, policy=IDLE).when.at(MIN + 5).expired(reason, deadline_ms=1)
    history.then().has_ended(A, "idle", at_ms=MIN).is_gone()


@pytest.mark.parametrize("reason", TIMED)
def test_a_fast_pruner_ends_no_session(reason: str) -> None:
    history = given().created(A, policy=IDLE).when.at(MIN - 1).expired(reason, sent_ms=MIN + 10 * S)
    history.then(Verdict.NOT_DUE).nothing_changed()
    given().created(A, policy=IDLE).suspended().when.at(9 * MIN).expired(reason).then(Verdict.NOT_DUE).nothing_changed()


def test_a_touch_overtakes_the_pruner() -> None:
    history = given().created(A, policy=IDLE).at(MIN - 1).touched().when.at(MIN).expired()
    history.then(Verdict.NOT_DUE).nothing_changed()


def test_the_pruner_twice_ends_once() -> None:
    given().created(A, policy=IDLE).at(MIN).expired().when.expired().then(Verdict.ENDED).nothing_changed()


def test_a_late_pruner_does_not_end_the_next_session() -> None:
    history = given().created(A, policy=IDLE).at(MIN).created(B, policy=IDLE).when.at(3 * MIN).expired(session_id=A)
    history.then(Verdict.ENDED).has_ended(B, "idle", at_ms=2 * MIN)
    history = given().created(A, policy=IDLE).at(MIN).created(B, policy=IDLE).when.expired(session_id=A)
    history.then(Verdict.STALE_SESSION).nothing_changed()


def test_a_pruner_that_gives_the_version() -> None:
    given().created(A, policy=IDLE).when.at(MIN).expired(if_version=1).then().has_ended(A, "idle", at_ms=MIN)
    history = given().created(A, policy=IDLE).when.at(MIN).expired(if_version=2)
    history.then(Verdict.VERSION_CONFLICT).has_ended(A, "idle", at_ms=MIN)


# ── by capacity or memory ──


@pytest.mark.parametrize("reason", PRESSED)
def test_pressure_ends_an_active_session_at_the_log_time(reason: str) -> None:
    history = given().created(A, policy=IDLE).when.at(S).expired(reason, if_version=1)
    history.then().has_ended(A, reason, at_ms=S).is_gone()
    assert history.outcome.ended is not None
    assert history.outcome.ended.version == 2


@pytest.mark.parametrize("reason", PRESSED)
def test_pressure_spares_who_has_moved_on(reason: str) -> None:
    history = given().created(A).touched().when.expired(reason, if_version=1)
    history.then(Verdict.VERSION_CONFLICT).nothing_changed()


@pytest.mark.parametrize("reason", PRESSED)
def test_pressure_spares_the_suspended(reason: str) -> None:
    given().created(A).suspended().when.expired(reason, if_version=2).then(Verdict.SUSPENDED).nothing_changed()


@pytest.mark.parametrize("reason", PRESSED)
def test_pressure_spares_the_held_until_the_lease_lapses(reason: str) -> None:
    history = given().created(A).held(lease_ms=MIN).when.at(MIN - 1).expired(reason, if_version=2)
    history.then(Verdict.HELD).nothing_changed()
    history.at(MIN).expired(reason, if_version=2).then().has_ended(A, reason, at_ms=MIN)


@pytest.mark.parametrize("reason", PRESSED)
def test_pressure_on_a_due_session_finds_it_ended_by_its_limit(reason: str) -> None:
    history = given().created(A, policy=IDLE).when.at(MIN + 5).expired(reason, if_version=1)
    history.then(Verdict.ENDED).has_ended(A, "idle", at_ms=MIN)


# ── closed ──


def test_whatever_lives_is_closed() -> None:
    history = given().created(A).when.at(S).closed("revoked").then().has_ended(A, "revoked", at_ms=S).is_gone()
    assert history.outcome.ended is not None
    assert history.outcome.ended.version == 2
    given().created(A).held().when.at(S).closed().then().has_ended(A, "logout", at_ms=S)
    given().created(A).suspended().when.at(S).closed().then().has_ended(A, "logout", at_ms=S)


def test_a_close_twice_ends_once() -> None:
    given().created(A).closed().when.closed().then(Verdict.ENDED).nothing_changed()


def test_a_close_of_a_due_session_finds_it_ended_by_its_limit() -> None:
    history = given().created(A, policy=IDLE).when.at(MIN).closed()
    history.then(Verdict.ENDED).has_ended(A, "idle", at_ms=MIN)


@pytest.mark.parametrize("what", ["expired", "closed"])
def test_general_checks_come_first(what: str) -> None:
    getattr(given().of(A), what)().then(Verdict.NO_SESSION)
    getattr(given().created(A), what)(session_id=B).then(Verdict.STALE_SESSION).nothing_changed()
    getattr(given().created(A), what)(if_version=5).then(Verdict.VERSION_CONFLICT).nothing_changed()

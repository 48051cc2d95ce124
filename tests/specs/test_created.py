"""`created`: applies when its key has no live session, or `replaces` names it, and the id was never seen."""

from __future__ import annotations

from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict
from tests.specs.given import EPOCH_MS, MIN, A, B, C, D, given

IDLE = Policy(idle_ttl_ms=MIN)
OTHER_KEY = "irc:#ubuntu:bob"


def test_a_session_begins_at_version_1() -> None:
    history = given().at(7).created(A, policy=IDLE, attributes={"owner": "u1"}).then().is_live(A, version=1)
    session = history.session
    assert (session.created_at_ms, session.last_active_at_ms) == (EPOCH_MS + 7, EPOCH_MS + 7)
    assert (session.policy, session.owner) == (IDLE, "u1")
    assert history.outcome.ended is None


def test_a_live_session_keeps_its_key() -> None:
    given().created(A).when.created(B).then(Verdict.EXISTS).nothing_changed().is_live(A, version=1)


def test_a_suspended_session_keeps_its_key_too() -> None:
    given().created(A).suspended().when.created(B).then(Verdict.EXISTS).nothing_changed()


def test_the_same_record_twice_begins_one_session() -> None:
    given().created(A).when.created(A).then(Verdict.EXISTS).nothing_changed()


def test_an_ended_id_never_begins_again() -> None:
    given().created(A).closed().when.created(A).then(Verdict.ID_REUSED).is_gone()


def test_an_id_that_lives_under_another_key_is_reused() -> None:
    given().created(A).of(A, OTHER_KEY).created().then(Verdict.ID_REUSED).is_gone()


def test_exists_is_said_before_id_reused() -> None:
    given().created(A).closed().created(B).when.created(A).then(Verdict.EXISTS).nothing_changed()


def test_a_key_is_free_again_after_an_end() -> None:
    given().created(A).closed().when.created(B).then().is_live(B, version=1)


def test_an_absent_session_has_version_0() -> None:
    given().created(A, if_version=0).then().is_live(A, version=1)
    given().created(A, if_version=1).then(Verdict.VERSION_CONFLICT).is_gone()


def test_a_live_session_has_its_own_version() -> None:
    given().created(A).touched().when.created(B, if_version=0).then(Verdict.VERSION_CONFLICT).nothing_changed()
    given().created(A).touched().when.created(B, if_version=2).then(Verdict.EXISTS).nothing_changed()


# ── replaces ──


def test_a_replacement_ends_one_session_and_begins_another_in_one_step() -> None:
    history = given().created(A, policy=IDLE).at(5).created(B, replaces=A).then()
    history.has_ended(A, "replaced", at_ms=5).is_live(B, version=1)
    assert len(history.partition) == 1
    assert history.outcome.ended is not None
    assert history.outcome.ended.version == 2


def test_a_replacement_gives_its_reason() -> None:
    given().created(A).at(5).created(B, replaces=A, reason="rotated").has_ended(A, "rotated", at_ms=5)


def test_a_suspended_session_is_replaced_too() -> None:
    given().created(A).suspended().when.at(5).created(B, replaces=A).then().has_ended(A, "replaced", at_ms=5)


def test_a_held_session_is_replaced_too_and_its_lease_is_not_inherited() -> None:
    history = given().created(A).held().when.at(5).created(B, replaces=A).then().has_ended(A, "replaced", at_ms=5)
    assert not history.session.leases


def test_a_replacement_must_find_its_session_live() -> None:
    given().created(B, replaces=A).then(Verdict.NO_SESSION).is_gone()
    given().created(A).closed().when.created(B, replaces=A).then(Verdict.ENDED).is_gone()
    given().created(C).when.created(B, replaces=A).then(Verdict.STALE_SESSION).nothing_changed()


def test_a_replacement_that_settles_what_it_names_begins_nothing() -> None:
    history = given().created(A, policy=IDLE).when.at(MIN).created(B, replaces=A)
    history.then(Verdict.ENDED).has_ended(A, "idle", at_ms=MIN).is_gone()


def test_a_replacement_needs_a_new_id() -> None:
    given().created(A).when.created(A, replaces=A).then(Verdict.ID_REUSED).nothing_changed()
    given().created(A).created(B, replaces=A).when.created(A, replaces=B).then(Verdict.ID_REUSED).nothing_changed()


def test_a_replacement_may_name_the_version_of_what_it_replaces() -> None:
    given().created(A).touched().when.created(B, replaces=A, if_version=1).then(Verdict.VERSION_CONFLICT).is_live(A, 2)
    given().created(A).touched().when.created(B, replaces=A, if_version=2).then().is_live(B, version=1)


def test_of_two_replacements_of_one_session_the_first_wins() -> None:
    history = given().created(A).created(B, replaces=A).when.created(D, replaces=A)
    history.then(Verdict.STALE_SESSION).nothing_changed().is_live(B, version=1)

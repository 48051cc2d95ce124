"""Log time, freshness, import, the formulas of the deadline, and *settle first*."""

from __future__ import annotations

from typing import Any

import pytest

from lastseen.engine.session import Policy
from lastseen.engine.verdicts import Verdict
from tests.specs.given import EPOCH_MS, HOUR, MIN, A, B, C, S, given

IDLE = Policy(idle_ttl_ms=MIN)
DAY = 24 * HOUR


# ── freshness ──


@pytest.mark.parametrize("ahead_ms", [-10 * MIN, -1, 0, 1, 60 * S])
def test_a_record_is_fresh_within_its_bounds(ahead_ms: int) -> None:
    given().at(HOUR).created(A, sent_ms=HOUR + ahead_ms).then().is_live(A, version=1)


@pytest.mark.parametrize("ahead_ms", [-10 * MIN - 1, 60 * S + 1, -DAY, DAY])
def test_a_record_is_void_one_millisecond_beyond_them(ahead_ms: int) -> None:
    given().at(HOUR).created(A, sent_ms=HOUR + ahead_ms).then(Verdict.CLOCK_SKEW).is_gone()


def test_a_skewed_record_settles_no_session() -> None:
    history = given().created(A, policy=IDLE).when.at(HOUR).touched(sent_ms=HOUR + DAY)
    history.then(Verdict.CLOCK_SKEW).nothing_changed()


def test_a_skewed_record_is_not_asked_anything_else() -> None:
    given().of(A).touched(sent_ms=DAY).then(Verdict.CLOCK_SKEW)


def test_log_time_counts_and_not_the_time_of_sending() -> None:
    history = given().created(A, policy=IDLE).when.at(30 * S).touched(sent_ms=5 * S).then()
    history.is_due_at(90 * S, "idle")


def test_a_void_record_for_its_clock_does_not_move_the_log_time() -> None:
    history = given().at(5).created(A).at(DAY).touched(sent_ms=0).then(Verdict.CLOCK_SKEW)
    assert history.partition.log_time_ms == EPOCH_MS + 5


# ── import ──


def test_an_import_lives_in_its_own_time() -> None:
    history = given().at(DAY).opened(imports=True).then().created(A, policy=IDLE, sent_ms=0).then()
    history.touched(sent_ms=59 * S).then().is_due_at(59 * S + MIN, "idle")
    history.touched(sent_ms=59 * S + MIN).then(Verdict.ENDED).has_ended(A, "idle", at_ms=59 * S + MIN)


def test_only_the_first_record_opens_a_log() -> None:
    history = given().opened(log_id="one").then().opened(log_id="another", imports=True).then(Verdict.ALREADY)
    assert (history.partition.log_id, history.partition.log_partitions, history.partition.importing) == (
        "one",
        1,
        False,
    )


@pytest.mark.parametrize("partition", [1, 5])
def test_the_first_record_of_another_partition_opens_none(partition: int) -> None:
    history = given().at(DAY).opened(imports=True, partition=partition, partitions=2).then(Verdict.ALREADY)
    assert (history.partition.log_id, history.partition.importing) == (None, False)
    history.created(A, sent_ms=0).then(Verdict.CLOCK_SKEW)


def test_a_log_that_is_not_opened_for_import_has_its_own_time_from_the_beginning() -> None:
    given().at(DAY).opened().then().created(A, sent_ms=0).then(Verdict.CLOCK_SKEW)


def test_a_log_opens_whatever_the_clock_of_its_maker_says() -> None:
    for sent_ms in (0, 2 * DAY):
        history = given().at(DAY).opened(sent_ms=sent_ms).then()
        assert history.partition.log_time_ms == 0
        history.created(A).then()


def test_an_import_starts_only_a_log() -> None:
    history = given().at(DAY).created(B).opened(imports=True).then(Verdict.ALREADY)
    history.of(A).created(sent_ms=0).then(Verdict.CLOCK_SKEW)


def test_an_import_does_not_start_twice() -> None:
    given().opened(imports=True).when.opened(imports=True).then(Verdict.ALREADY).at(DAY).created(A, sent_ms=0).then()


def test_nothing_imports_after_the_import() -> None:
    history = given().at(DAY).opened(imports=True).created(A, sent_ms=0).import_finished(sent_ms=1).then()
    history.touched(sent_ms=2).then(Verdict.CLOCK_SKEW)
    history.touched().then().opened(imports=True).then(Verdict.ALREADY).touched(sent_ms=2).then(Verdict.CLOCK_SKEW)


def test_an_import_that_never_began_does_not_finish() -> None:
    given().import_finished().then(Verdict.ALREADY)
    given().opened(imports=True).import_finished().when.import_finished().then(Verdict.ALREADY)


def test_an_import_of_the_future_is_void() -> None:
    history = given().at(DAY).opened(imports=True).created(A, sent_ms=DAY + 60 * S).then()
    history.touched(sent_ms=DAY + 60 * S + 1).then(Verdict.CLOCK_SKEW).nothing_changed()


def test_the_start_of_an_import_has_its_own_time_too() -> None:
    given().at(DAY).opened(imports=True, sent_ms=0).then().created(A, sent_ms=1).then()
    given().at(DAY).opened(imports=True, sent_ms=DAY + 60 * S).then()
    given().at(DAY).opened(imports=True, sent_ms=DAY + 60 * S + 1).then(Verdict.CLOCK_SKEW).created(A, sent_ms=0).then(
        Verdict.CLOCK_SKEW
    )


def test_after_the_import_the_log_has_its_own_time_again() -> None:
    history = given().at(DAY).opened(imports=True).created(A, policy=IDLE, sent_ms=DAY - S).import_finished()
    history.at(DAY + 30 * S).touched(sent_ms=DAY + S).then().is_due_at(DAY + 90 * S, "idle")


# ── the deadline ──


@pytest.mark.parametrize(
    ("limits", "due_ms", "reason"),
    [
        ({}, None, None),
        ({"idle_ttl_ms": MIN}, 10 * S + MIN, "idle"),
        ({"idle_ttl_ms": MIN, "touch_precision_ms": 5 * S}, 15 * S + MIN, "idle"),
        ({"touch_precision_ms": 5 * S}, None, None),
        ({"max_age_ms": MIN}, MIN, "max_age"),
        ({"max_age_ms": MIN, "touch_precision_ms": 5 * S}, MIN, "max_age"),
        ({"idle_ttl_ms": MIN, "max_age_ms": MIN}, MIN, "max_age"),
        ({"idle_ttl_ms": MIN, "max_age_ms": HOUR}, 10 * S + MIN, "idle"),
        ({"idle_ttl_ms": MIN, "max_age_ms": MIN + 10 * S}, MIN + 10 * S, "max_age"),
        ({"suspend_ttl_ms": 1}, None, None),
    ],
)
def test_the_deadline_of_an_active_session(limits: dict[str, int], due_ms: int | None, reason: str | None) -> None:
    given().created(A, policy=Policy(**limits)).at(10 * S).touched().is_due_at(due_ms, reason)


# ── settle first ──


def test_a_session_is_due_at_its_deadline_and_not_a_millisecond_before() -> None:
    given().created(A, policy=IDLE).when.at(MIN - 1).touched().then().is_live(A, version=2)
    given().created(A, policy=IDLE).when.at(MIN).touched().then(Verdict.ENDED).has_ended(A, "idle", at_ms=MIN)
    session = given().created(A, policy=IDLE).session
    assert not session.is_due(EPOCH_MS + MIN - 1)
    assert session.is_due(EPOCH_MS + MIN)
    assert not given().created(A).session.is_due(2**53)


RECORDS: dict[str, dict[str, Any]] = {
    "touched": {},
    "suspended": {},
    "resumed": {},
    "held": {},
    "released": {},
    "expired": {"reason": "capacity"},
    "closed": {},
}


@pytest.mark.parametrize("name", RECORDS)
def test_any_record_settles_whom_it_addresses(name: str) -> None:
    history = given().created(A, policy=IDLE).when.at(MIN + 7)
    getattr(history, name)(**RECORDS[name]).then(Verdict.ENDED).has_ended(A, "idle", at_ms=MIN).is_gone()


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_a_stranger_settles_who_lives_under_the_key(name: str) -> None:
    history = given().created(A, policy=IDLE).when.at(MIN + 7)
    getattr(history, name)(session_id=C, **RECORDS[name]).then(Verdict.NO_SESSION).has_ended(A, "idle", at_ms=MIN)


def test_a_new_session_need_not_wait_for_the_pruner() -> None:
    history = given().created(A, policy=IDLE).when.at(MIN + 7).created(B).then()
    history.has_ended(A, "idle", at_ms=MIN).is_live(B, version=1)
    assert history.outcome.session is history.session


def test_a_void_creation_settles_all_the_same() -> None:
    history = given().created(A, policy=IDLE).when.at(MIN).created(B, if_version=1)
    history.then(Verdict.VERSION_CONFLICT).has_ended(A, "idle", at_ms=MIN).is_gone()
    history = given().created(A, policy=IDLE).when.at(MIN).created(A)
    history.then(Verdict.ID_REUSED).has_ended(A, "idle", at_ms=MIN).is_gone()


def test_a_record_settles_no_session_under_another_key() -> None:
    history = given().created(A, policy=IDLE).when.at(MIN).of(B, "other").created().then()
    assert history.outcome.ended is None
    history.of(A).is_live(A, version=1)

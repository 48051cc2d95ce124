"""Holds share a thread: it renews what is due, ends with the last hold, and is not held up by one slow renewal."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from lastseen import ManualClock
from lastseen.engine.lease_renewer import FEW, MOST_THREADS, LeaseRenewer
from tests.engine.stage import Stage
from tests.patience import PATIENCE_S, eventually

MIN = 60_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def renewer(clock: ManualClock) -> Iterator[LeaseRenewer]:
    """Ends with no thread left."""
    renewer = LeaseRenewer(clock)
    yield renewer
    assert eventually(lambda: renewer.threads == 0)


def lease_threads() -> int:
    return sum(thread.name == "lastseen-leases" for thread in threading.enumerate())


@pytest.mark.parametrize("count", [50, 200])
def test_many_leases_need_no_more_threads(renewer: LeaseRenewer, clock: ManualClock, count: int) -> None:
    renewed: Counter[int] = Counter()

    def renew(number: int) -> bool:
        renewed[number] += 1
        return True

    leases = [renewer.add(lambda number=number: renew(number), MIN) for number in range(count)]  # type: ignore[misc]
    assert len(renewer) == count
    assert renewer.threads == 1
    for turn in (1, 2):
        clock.advance(MIN)
        assert eventually(lambda turn=turn: renewed == dict.fromkeys(range(count), turn))
        assert renewer.threads <= MOST_THREADS
    for lease in leases:
        renewer.drop(lease)
    assert len(renewer) == 0


def test_one_that_waits_for_the_log_holds_up_no_other(renewer: LeaseRenewer, clock: ManualClock) -> None:
    stuck, others = threading.Event(), threading.Event()

    def wait() -> bool:
        stuck.wait(PATIENCE_S)
        return True

    first = renewer.add(wait, MIN)
    second = renewer.add(lambda: others.set() is None, MIN)
    clock.advance(MIN)
    assert others.wait(PATIENCE_S)
    stuck.set()
    renewer.drop(first)
    renewer.drop(second)


def test_what_is_dropped_is_not_renewed_again_and_does_not_pile_up(renewer: LeaseRenewer, clock: ManualClock) -> None:
    renewed = threading.Event()
    for _ in range(5_000):
        renewer.drop(renewer.add(lambda: renewed.set() is None, MIN))
    assert len(renewer._due) <= FEW
    clock.advance(2 * MIN)
    assert eventually(lambda: renewer.threads == 0)
    assert not renewed.is_set()


def test_a_drop_waits_for_the_renewal_in_progress(renewer: LeaseRenewer, clock: ManualClock) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def renew() -> bool:
        begun.set()
        go_on.wait(PATIENCE_S)
        ended.set()
        return True

    lease = renewer.add(renew, MIN)
    clock.advance(MIN)
    assert begun.wait(PATIENCE_S)
    threading.Timer(0.05, go_on.set).start()
    renewer.drop(lease)
    assert ended.is_set()


def test_an_unexpected_error_is_logged_and_the_lease_is_tried_again(
    renewer: LeaseRenewer, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def renew() -> bool:
        tries.append(clock.now_ms())
        raise ZeroDivisionError

    lease = renewer.add(renew, MIN)
    for number in (1, 2):
        clock.advance(MIN)
        assert eventually(lambda number=number: len(tries) == number)
    renewer.drop(lease)
    assert "is tried again" in caplog.text


def test_a_hundred_holds_of_an_engine_share_a_thread(stage: Stage) -> None:
    engine = stage.open()
    before = threading.active_count()
    holds = []
    for number in range(100):
        engine.open(f"k{number}")
        holds.append(engine.hold(f"k{number}", holder="job"))
        holds[-1].__enter__()
    assert threading.active_count() <= before + 1
    for hold in holds:
        hold.__exit__(None, None, None)
    assert eventually(lambda: threading.active_count() <= before)


def test_a_hold_whose_renewal_cannot_start_gives_the_lease_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = stage.open()
    engine.open("k")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"), engine.hold("k"):
            raise AssertionError("the block must not run")
    session = engine.get("k")
    assert session is not None
    assert session.holders == {}
    with engine.hold("k") as hold:
        assert hold.session is not None
        assert lease_threads() >= 1, "the next one starts a thread"

"""Touches without waiting callers: each is in the log once and in its order, many at a time, or its loss is
reported."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import chain

import pytest
from stage import KEY, MIN, T0, Stage

from lastseen import ManualClock
from lastseen.engine import errors, fire_and_forget
from lastseen.engine.codec import decode
from lastseen.engine.errors import LogError, LogUnavailable
from lastseen.engine.fire_and_forget import FireAndForget
from lastseen.engine.log.port import Message, Position
from lastseen.engine.verdicts import Verdict
from tests.patience import PATIENCE_S

ID = "s" * 22


class SlowLog:
    """A log that responds when the test lets it."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[str], Future[list[Position]]]] = []
        self.refuses: LogError | None = None

    def append_soon(self, messages: Sequence[Message]) -> Future[list[Position]]:
        if self.refuses is not None:
            raise self.refuses
        future: Future[list[Position]] = Future()
        self.taken.append(([message.key for message in messages], future))
        return future

    @property
    def keys(self) -> list[list[str]]:
        return [keys for keys, _ in self.taken]

    def answer(self, number: int, error: LogError | None = None) -> None:
        future = self.taken[number][1]
        if error is None:
            future.set_result([])
        else:
            future.set_exception(error)


@pytest.fixture
def log() -> SlowLog:
    return SlowLog()


@pytest.fixture
def touches(log: SlowLog) -> FireAndForget:
    return FireAndForget(log, "/test", ManualClock(T0))  # type: ignore[arg-type]


def test_those_that_come_while_the_log_is_at_work_go_together(touches: FireAndForget, log: SlowLog) -> None:
    for key in "abcd":
        touches.add(0, key, ID)
    assert log.keys == [["a"]]
    log.answer(0)
    assert log.keys == [["a"], ["b", "c", "d"]]
    touches.add(0, "e", ID)
    log.answer(1)
    assert log.keys == [["a"], ["b", "c", "d"], ["e"]]
    log.answer(2)
    touches.add(0, "f", ID)
    assert log.keys[3:] == [["f"]]


def test_an_append_holds_so_many_at_most(touches: FireAndForget, log: SlowLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fire_and_forget, "BATCH", 2)
    for key in "abcdef":
        touches.add(0, key, ID)
    log.answer(0)
    assert log.keys == [["a"], ["b", "c"], ["d", "e"], ["f"]]


def test_what_is_appended_next_comes_after_them(on_disk: Stage) -> None:
    engine = on_disk.open()
    engine.open(KEY)
    on_disk.clock.advance(MIN)
    for _ in range(300):
        engine.touch(KEY, wait="none")
    engine.suspend(KEY)
    (answer,) = engine.touch_many([KEY])
    assert isinstance(answer, errors.SessionSuspended)
    session = engine.get(KEY)
    assert session is not None
    assert (session.version, session.last_active_at_ms) == (302, T0 + MIN)
    assert [entry.verdict for entry in engine.history(KEY, limit=400)] == [Verdict.APPLIED] * 302


def test_many_threads_lose_and_repeat_nothing_and_keep_their_order(on_disk: Stage) -> None:
    engine = on_disk.open(background=True)
    keys = [f"key-{number}" for number in range(6)]
    versions: list[list[int]] = [[] for _ in keys]
    for key in keys:
        engine.open(key)

    def work(number: int) -> None:
        for turn in range(400):
            engine.touch(keys[number], wait="none")
            if turn % 100 == 99:
                versions[number].append(engine.update(keys[number], {"turn": turn}).version)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    engine.shutdown()
    again = on_disk.open()
    for key in keys:
        entries = again.history(key, limit=1_000)
        assert len(entries) == again.get(key).version == 1 + 400 + 4, key  # type: ignore[union-attr]
        assert {entry.verdict for entry in entries} == {Verdict.APPLIED}
    # Each update found just those touches before it that its thread had asked for before.
    assert versions == [[1 + 101 * turn for turn in range(1, 5)]] * 6


def test_the_log_has_them_when_the_engine_has_shut_down(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY)
    for _ in range(50):
        engine.touch(KEY, wait="none")
    log = engine._log
    if stage.url == "memory://":
        assert log.end_offsets() == [52]
        return
    engine.shutdown()
    session = stage.open().get(KEY)
    assert session is not None
    assert session.version == 51


def test_what_may_not_be_touched_is_refused_at_once(on_disk: Stage) -> None:
    engine = on_disk.open()
    engine.open("suspended")
    engine.suspend("suspended")
    engine.open("brief", policy=engine._policy.__class__(idle_ttl_ms=1))
    on_disk.clock.advance(MIN)
    before = engine._log.end_offsets()
    for key, refused in (
        ("absent", errors.SessionNotFound), ("suspended", errors.SessionSuspended), ("brief", errors.SessionEnded),
        ("", errors.InvalidKey),
    ):  # fmt: skip
        with pytest.raises(refused):
            engine.touch(key, wait="none")
    with pytest.raises(errors.StaleSession):
        engine.touch("suspended", wait="none", session_id="another-session-of-old")
    assert engine._log.end_offsets() == before


def test_within_the_precision_nothing_is_written(on_disk: Stage) -> None:
    engine = on_disk.open(touch_precision="1m")
    engine.open(KEY)
    engine.touch(KEY, wait="none")
    engine.open("another")
    assert engine._log.end_offsets() == [3]


def test_a_failure_is_reported_and_later_touches_continue(
    touches: FireAndForget, log: SlowLog, caplog: pytest.LogCaptureFixture
) -> None:
    for key in "abc":
        touches.add(0, key, ID)
    with caplog.at_level(logging.WARNING, "lastseen"):
        log.answer(0, LogError("the disk is gone"))
    assert "the disk is gone" in caplog.text
    assert log.keys == [["a"], ["b", "c"]]
    caplog.clear()
    log.refuses = LogError("closed for good")
    touches.add(0, "d", ID)
    with caplog.at_level(logging.WARNING, "lastseen"):
        log.answer(1)
    assert "closed for good" in caplog.text
    log.refuses = None
    touches.add(0, "e", ID)
    assert log.keys[2:] == [["e"]]


def test_a_refusal_of_the_log_is_raised_to_the_sender_and_not_written_later(
    touches: FireAndForget, log: SlowLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.refuses = LogUnavailable("too much is under way")
    with caplog.at_level(logging.WARNING, "lastseen"), pytest.raises(LogUnavailable, match="too much"):
        touches.add(0, "a", ID)
    assert "too much is under way" in caplog.text
    log.refuses = None
    touches.add(0, "b", ID)
    assert log.keys == [["b"]]


def test_who_brings_too_many_waits_for_room(
    touches: FireAndForget, log: SlowLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fire_and_forget, "MAX_WAITING", 3)
    monkeypatch.setattr(fire_and_forget, "PATIENCE_S", 10 * PATIENCE_S)
    for key in "abcd":
        touches.add(0, key, ID)
    late = threading.Thread(target=touches.add, args=(0, "e", ID))
    late.start()
    assert log.keys == [["a"]]
    log.answer(0)
    late.join(PATIENCE_S)
    assert not late.is_alive()
    log.answer(1)
    assert [*chain(*log.keys)] == list("abcde")


def test_and_not_without_end(touches: FireAndForget, log: SlowLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fire_and_forget, "MAX_WAITING", 3)
    monkeypatch.setattr(fire_and_forget, "PATIENCE_S", 0.05)
    for key in "abcd":
        touches.add(0, key, ID)
    with pytest.raises(LogUnavailable, match="this one was not written"):
        touches.add(0, "e", ID)
    log.answer(0)
    assert [*chain(*log.keys)] == list("abcd")


def test_a_log_that_answers_at_once_is_no_reason_to_recurse(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY)
    for _ in range(3_000):
        engine.touch(KEY, wait="none")
    engine.refresh()
    engine.touch(KEY)
    assert engine.get(KEY).version == 3_002  # type: ignore[union-attr]


def test_they_are_written_as_any_other_touch(on_disk: Stage) -> None:
    engine = on_disk.open(source="/gateway")
    session = engine.open(KEY)
    engine.touch(KEY, wait="none")
    engine.open("another")
    record = engine._log.read(0, session.position.offset + 1, 1)[0]
    event, sent_at_ms = decode(record.key, record.value)  # type: ignore[misc]
    assert (event.type, event.source, event.subject) == ("lastseen.session.touched.v1", "/gateway", KEY)
    assert (event.data.session_id, sent_at_ms) == (session.session_id, T0)


def test_at_the_end_the_rest_is_sent_without_waiting_for_an_answer(touches: FireAndForget, log: SlowLog) -> None:
    for key in "abc":
        touches.add(0, key, ID)
    touches.send()
    assert log.keys == [["a"], ["b", "c"]]


def test_an_engine_sends_them_before_it_closes_its_log(on_disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, order = on_disk.open(), list[str]()
    send, close = engine._fire_and_forget.send, engine._log.close
    monkeypatch.setattr(engine._fire_and_forget, "send", lambda: (order.append("sent"), send()))
    monkeypatch.setattr(engine._log, "close", lambda: (order.append("closed"), close()))
    engine.shutdown()
    assert order == ["sent", "closed"]

"""The emitter on logs in memory and in SQLite: what it takes in is in the log, in order, or it says what is not."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

import lastseen
from lastseen import Emitter, EmitterFull, NotDelivered, errors, policy
from lastseen.emitter import delivery
from lastseen.emitter.lanes import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from lastseen.engine import codec, events
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import EngineClosed, InvalidInput, LogMismatch, LogUnavailable, OutcomeUnknown
from lastseen.engine.log import open_log
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Message, Position
from tests.contracts.log_contract import everything
from tests.patience import PATIENCE_S, paced_s

ID = "0123456789abcdefghijkl"
SOURCE = "/tests"


class Scripted:
    """A log that does with each append what a test says: nothing yet, an error, or what a log does."""

    def __init__(self, partitions: int = 1) -> None:
        self.log = MemoryLog(SystemClock(), partitions, genesis=True)
        self.held: list[tuple[Sequence[Message], Future[list[Position]]]] = []
        self.is_holding = False
        self.script: list[Callable[[Sequence[Message]], Exception | None]] = []
        self.changed = threading.Condition()

    def append_soon(self, messages: Sequence[Message]) -> Future[list[Position]]:
        with self.changed:
            error = self.script.pop(0)(messages) if self.script else None
            future: Future[list[Position]] = Future()
            self.held.append((messages, future))
            self.changed.notify_all()
            if isinstance(error, InvalidInput | LogMismatch):
                self.held.pop()
                raise error
            if error is not None:
                self.held.pop()
                future.set_exception(error)
            elif not self.is_holding:
                self.release()
        return future

    def release(self) -> None:
        """Do what was held back, the latest first: logs need not answer in order."""
        held, self.held = self.held[::-1], []
        for messages, future in held:
            future.set_result(self.log.append(messages))

    def wait_until(self, what: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, PATIENCE_S)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


Opened = Callable[..., Emitter]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Makes emitters, `opened(url, log=…, **settings)`, and shuts them down after the test, however it went."""
    made: list[Emitter] = []

    def make(url: str = "memory://", *, log: Any = None, **settings: Any) -> Emitter:
        emitter = Emitter(url, **({"source": SOURCE} | settings))
        made.append(emitter)
        if log is not None:
            emitter._delivery.log = log
        return emitter

    yield make
    for emitter in made:
        with suppress(NotDelivered):  # a test that is about it has seen it
            emitter.shutdown(0.0)


def stored(log: Any, partitions: int = 1) -> list[events.SessionEvent]:
    """The events of sessions in a log."""
    found = []
    for some in everything(log)[:partitions]:
        for record in some:
            decoded = codec.decode(record.key, record.value)
            assert isinstance(decoded, tuple), record
            if isinstance(decoded[0], events.SessionEvent):
                found.append(decoded[0])
    return found


def numbers(log: Any, key: str = "a", partitions: int = 1) -> list[int | None]:
    """The numbers that events of a key carry as their version."""
    return [event.data.if_version for event in stored(log, partitions) if event.subject == key]


@pytest.fixture(params=["memory", "sqlite", "sqlite, 3 partitions"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind, _, partitions = request.param.partition(", ")
    return "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/log.db?partitions={partitions[:1] or 1}"


# ── what is emitted ──


def test_every_event_is_in_the_log_as_an_engine_would_have_written_it(opened: Opened, url: str) -> None:
    emitter = opened(url)
    limits = policy(idle_ttl="5m")
    session_id = emitter.open("a", attributes={"owner": "ana"}, policy=limits)
    emitter.touch("a", session_id)
    emitter.touch("a", session_id, attributes={"n": 1}, message={"text": "hi"}, policy=limits, if_version=2)
    emitter.touch_many([("a", session_id), ("a", session_id)])
    emitter.suspend("a", session_id, reason="night")
    emitter.resume("a", session_id, if_version=6)
    emitter.hold("a", session_id, "job", lease_ms=5_000)
    emitter.release("a", session_id, "job")
    emitter.close("a", session_id, reason="logout")
    emitter.flush(PATIENCE_S)
    log = emitter._delivery.log
    assert log is not None
    found = stored(log, log.partitions)
    assert [events.name_of(event) for event in found] == [
        "created", "touched", "touched", "touched", "touched", "suspended", "resumed", "held", "released", "closed",
    ]  # fmt: skip
    assert {(event.source, event.subject, event.data.session_id) for event in found} == {(SOURCE, "a", session_id)}
    assert len({event.id for event in found}) == len(found)
    assert (found[0].data.policy, found[0].data.attributes) == (limits, {"owner": "ana"})
    said = found[2].data
    assert (said.attributes, said.message, said.policy, said.if_version) == ({"n": 1}, {"text": "hi"}, limits, 2)
    assert [found[5].data.reason, found[6].data.if_version, found[9].data.reason] == ["night", 6, "logout"]
    assert (found[7].data.holder, found[7].data.lease_ms, found[8].data.holder) == ("job", 5_000, "job")
    counts = emitter.statistics()
    assert (counts["emitted"], counts["acknowledged"], counts["waiting"], counts["waiting_bytes"]) == (10, 10, 0, 0)


def test_an_engine_folds_what_was_emitted_and_a_proposal_is_only_one(opened: Opened, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    emitter = opened(url)
    with lastseen.open_engine(url, background=False) as engine:
        lives = engine.open("taken").session_id
        refused = emitter.open("taken")
        taken = emitter.open("free", ID)
        emitter.touch("free", taken, attributes={"n": 1})
        emitter.flush(PATIENCE_S)
        engine.refresh()
        assert refused != lives
        assert taken == ID
        view = engine.get("taken")
        assert view is not None
        assert view.session_id == lives
        assert engine.history("taken")[-1].verdict is lastseen.Verdict.EXISTS
        view = engine.get("free")
        assert view is not None
        assert (view.session_id, view.version, dict(view.attributes)) == (ID, 2, {"n": 1})


def test_each_key_goes_to_its_partition(opened: Opened, tmp_path: Path) -> None:
    from lastseen.engine.partitioner import partition_of

    emitter = opened(f"sqlite:///{tmp_path}/log.db?partitions=5")
    emitter.touch_many([(f"k{n}", ID) for n in range(500)])
    emitter.flush(PATIENCE_S)
    log = emitter._delivery.log
    assert log is not None
    keys = {record.key: record.partition for number in range(5) for record in log.read(number, 1, 1_000)}
    assert keys == {f"k{n}": partition_of(f"k{n}", 5) for n in range(500)}


# ── what is refused before the buffer ──


BAD: list[tuple[type[Exception], Callable[[Emitter], object]]] = [
    (errors.InvalidKey, lambda e: e.touch("", ID)),
    (errors.InvalidKey, lambda e: e.touch("a\nb", ID)),
    (errors.InvalidKey, lambda e: e.touch(None, ID)),  # type: ignore[arg-type]
    (errors.InvalidKey, lambda e: e.open("x" * 513)),
    (errors.InvalidEvent, lambda e: e.touch("a", "short")),
    (errors.InvalidEvent, lambda e: e.touch("a", f"{ID}\n")),
    (errors.InvalidEvent, lambda e: e.touch("a", None)),  # type: ignore[arg-type]
    (errors.InvalidEvent, lambda e: e.touch("a", ID, attributes={"x": "y" * 20_000})),
    (errors.InvalidEvent, lambda e: e.touch("a", ID, attributes=[1])),  # type: ignore[arg-type]
    (errors.InvalidEvent, lambda e: e.touch("a", ID, message=float("nan"))),
    (errors.InvalidEvent, lambda e: e.touch("a", ID, if_version=-1)),
    (errors.InvalidEvent, lambda e: e.open("a", "short")),
    (errors.InvalidEvent, lambda e: e.hold("a", ID, "job", lease_ms=0)),
    (errors.InvalidEvent, lambda e: e.release("a", ID, "")),
    (errors.InvalidEvent, lambda e: e.close("a", ID, reason="No Reason")),
    (errors.InvalidEvent, lambda e: e.suspend("a", "")),
    (errors.InvalidEvent, lambda e: e.resume("a", ID, reason="?")),
    (errors.InvalidKey, lambda e: e.touch_many([("a", ID), ("", ID)])),
    (errors.InvalidEvent, lambda e: e.touch_many([("a", ID), ("b", "short")])),
    (errors.InvalidEvent, lambda e: e.touch_many([("a", ID), ("b",)])),  # type: ignore[list-item]
    (errors.InvalidEvent, lambda e: e.touch_many([("a", ID), None])),  # type: ignore[list-item]
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_breaks_a_rule_is_not_taken_in(opened: Opened, number: int) -> None:
    error, call = BAD[number]
    emitter = opened()
    with pytest.raises(error):
        call(emitter)
    emitter.flush(PATIENCE_S)
    assert emitter.statistics()["emitted"] == 0
    assert stored(emitter._delivery.log) == []


def test_the_short_way_accepts_the_session_ids_that_the_model_does() -> None:
    from lastseen.emitter.emitter import _session_id_form

    schema = TypeAdapter(events.SessionId).json_schema()
    assert schema["pattern"] == f"^{_session_id_form.pattern}$"


@pytest.mark.parametrize(
    "settings",
    [
        {"source": ""}, {"when_full": "drop"}, {"max_waiting_bytes": 0}, {"max_waiting_bytes": 1.5},
        {"wait_timeout": 0}, {"give_up_after": "10m"}, {"give_up_after": -1}, {"on_failure": 5}, {"policy": {}},
    ],
)  # fmt: skip
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidSetting, match=next(iter(settings))):
        Emitter("memory://", **({"source": SOURCE} | settings))


def test_what_is_wrong_with_the_log_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("this is no log, and no database" * 100)
    for url, error in (("sqlite:///", errors.InvalidSetting), (f"sqlite:///{tmp_path}/no.db", errors.LogCorrupt)):
        with pytest.raises(error):
            Emitter(url, source=SOURCE)


# ── order ──


@pytest.mark.parametrize("failure", [LogUnavailable("away"), OutcomeUnknown("who knows")])
def test_nothing_overtakes_what_has_failed(opened: Opened, failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_RETRY_S", 0.01)
    log = Scripted()
    log.is_holding = True
    emitter = opened(log=log)
    emitter.touch("a", ID, if_version=0)
    log.wait_until(lambda: len(log.held) == 1)
    for number in range(1, 50):
        emitter.touch("a", ID, if_version=number)
    for number in range(50):
        emitter.touch(f"k{number}", ID, if_version=0)
    log.wait_until(lambda: len(log.held) > 1)  # so all that was emitted before stands in its lane
    with log.changed:
        messages, future = log.held.pop(0)
        if isinstance(failure, OutcomeUnknown):
            log.log.append(messages)
        log.is_holding = False
        log.script = [lambda _: None, lambda _: failure, lambda _: failure]
        future.set_exception(failure)
        log.release()
    emitter.flush(PATIENCE_S)
    twice = [0] * isinstance(failure, OutcomeUnknown)
    assert numbers(log) == [*twice, *range(50)]
    assert emitter.statistics()["retries"] >= 3


def test_batches_of_other_keys_go_on_while_one_is_under_way(opened: Opened) -> None:
    log = Scripted()
    log.is_holding = True
    emitter = opened(log=log)
    keys = [f"k{n}" for n in range(100)]
    emitter.touch_many([(key, ID) for key in keys])
    log.wait_until(lambda: sum(len(messages) for messages, _ in log.held) == 100)
    assert len(log.held) >= 2, "several batches of one partition are under way"
    before = {message.key for messages, _ in log.held for message in messages}
    for key in keys:
        emitter.touch(key, ID, if_version=1)
    with pytest.raises(NotDelivered) as caught:
        emitter.flush(0.2)
    assert caught.value.waiting == 200
    with log.changed:
        assert sum(len(messages) for messages, _ in log.held) == 100, "a key has one batch under way"
        assert before == set(keys)
        log.is_holding = False
        log.release()
    emitter.flush(PATIENCE_S)
    assert all(numbers(log, key) == [None, 1] for key in keys)


def test_a_batch_is_never_too_large_to_be_all_or_nothing(opened: Opened) -> None:
    log = Scripted()
    seen: list[tuple[int, int]] = []

    def note(messages: Sequence[Message]) -> None:
        seen.append((len(messages), sum(len(each.key.encode()) + len(each.value) for each in messages)))

    log.script = [note] * 1_000
    emitter = opened(log=log)
    emitter.touch_many([("a", ID)] * 20_000)
    for number in range(40):
        emitter.touch("ключ" * 100, ID, message="x" * 60_000, if_version=number)
    emitter.flush(PATIENCE_S)
    assert max(count for count, _ in seen) <= MAX_BATCH_EVENTS
    assert max(size for _, size in seen) <= MAX_BATCH_BYTES
    assert len(seen) < 60, "batches are as large as they may be"
    assert numbers(log, "ключ" * 100) == list(range(40))


# ── bounds ──


def test_what_is_too_much_is_refused_at_once(opened: Opened) -> None:
    log = Scripted()
    log.is_holding = True
    emitter = opened(log=log, when_full="refuse", max_waiting_bytes=5_000)
    with pytest.raises(EmitterFull, match="5000") as caught:
        deque((emitter.touch("a", ID) for _ in range(100)), 0)
    taken = emitter.statistics()["emitted"]
    assert isinstance(caught.value, LogUnavailable)
    assert 5 <= taken < 25
    with pytest.raises(EmitterFull):
        emitter.touch_many([("a", ID)] * 2)
    counts = emitter.statistics()
    assert (counts["emitted"], counts["refused"], counts["waiting"]) == (taken, 3, taken)
    assert counts["waiting_bytes"] <= 5_000
    log.is_holding = False
    log.release()
    emitter.flush(PATIENCE_S)
    emitter.touch("a", ID)
    emitter.flush(PATIENCE_S)
    assert len(stored(log)) == taken + 1


def test_a_call_waits_for_room_and_no_longer_than_it_may(opened: Opened) -> None:
    log = Scripted()
    log.is_holding = True
    emitter = opened(log=log, max_waiting_bytes=2_000, wait_timeout="200ms")
    emitter.touch_many([("a", ID)] * 4)
    began_s, began = time.monotonic(), paced_s()
    with pytest.raises(EmitterFull):
        emitter.touch_many([("a", ID)] * 4)
    assert time.monotonic() - began_s > 0.15
    assert paced_s() - began < 5
    emitter = opened(log=log, max_waiting_bytes=2_000)
    emitter.touch_many([("b", ID)] * 4)
    caller = threading.Thread(target=emitter.touch_many, args=([("b", ID)] * 4,))
    caller.start()
    caller.join(0.1)
    assert caller.is_alive(), "it waits"
    log.wait_until(lambda: any(messages[0].key == "b" for messages, _ in log.held))
    log.is_holding = False
    log.release()
    caller.join(PATIENCE_S)
    assert not caller.is_alive()
    emitter.flush(PATIENCE_S)
    assert [event.subject for event in stored(log)].count("b") == 8


def test_a_large_call_is_taken_in_as_room_comes_and_says_how_far_it_came(opened: Opened) -> None:
    emitter = opened(max_waiting_bytes=600_000)
    emitter.touch_many([("a", ID)] * 20_000)
    emitter.flush(PATIENCE_S)
    assert emitter.statistics()["acknowledged"] == 20_000
    log = Scripted()
    log.is_holding = True
    emitter = opened(log=log, max_waiting_bytes=600_000, wait_timeout="100ms")
    with pytest.raises(EmitterFull) as caught:
        emitter.touch_many([("a", ID)] * 20_000)
    assert caught.value.taken == emitter.statistics()["emitted"] > 0


def test_a_caller_does_not_wait_for_a_log_that_hangs(opened: Opened) -> None:
    log = Scripted()
    hangs, entered = threading.Event(), threading.Event()

    def hang(_: Sequence[Message]) -> None:
        entered.set()
        assert hangs.wait(PATIENCE_S)

    log.script = [hang]
    emitter = opened(log=log, when_full="refuse", max_waiting_bytes=1_000_000)
    emitter.touch("a", ID)
    assert entered.wait(PATIENCE_S)
    slowest_s, refused = 0.0, 0
    for _ in range(5_000):
        began = time.thread_time()
        try:
            emitter.touch("a", ID)
        except EmitterFull:
            refused += 1
        slowest_s = max(slowest_s, time.thread_time() - began)
    assert refused > 1_000
    assert not hangs.is_set(), "the log hung all the time"
    hangs.set()
    emitter.flush(PATIENCE_S)


# ── the truth ──


def test_a_flush_reports_failures_once_and_unknown_outcomes(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_RETRY_S", 0.02)
    reported: list[tuple[str, type[Exception]]] = []
    log = Scripted()
    emitter = opened(
        log=log, give_up_after="100ms", on_failure=lambda event, error: reported.append((event.subject, type(error)))
    )
    log.script = [lambda _: LogUnavailable("away")] * 1_000
    emitter.touch_many([("a", ID)] * 3)
    while emitter.statistics()["failed"] < 3:
        time.sleep(0.001)  # waits: for the failures, which come before the flush that tells of them
    with pytest.raises(NotDelivered, match=r"3 are not in the log.*away") as caught:
        emitter.flush(PATIENCE_S)
    assert (caught.value.failed, caught.value.unknown, caught.value.waiting) == (3, 0, 0)
    assert isinstance(caught.value.__cause__, LogUnavailable)
    emitter.flush(PATIENCE_S)
    log.script = [lambda _: OutcomeUnknown("who knows"), *[lambda _: LogUnavailable("away")] * 1_000]
    emitter.touch("b", ID)
    with pytest.raises(NotDelivered, match="1 may be in the log or not"):
        emitter.flush(PATIENCE_S)
    log.script = []
    emitter.touch("c", ID)
    emitter.flush(PATIENCE_S)
    assert reported == [("a", LogUnavailable)] * 3 + [("b", LogUnavailable)]
    counts = emitter.statistics()
    assert [counts[name] for name in ("emitted", "acknowledged", "failed", "unknown", "waiting")] == [5, 1, 3, 1, 0]
    assert [event.subject for event in stored(log)] == ["c"]


def test_a_flush_covers_what_came_before_it_and_waits_for_nothing_else(opened: Opened) -> None:
    log = Scripted(partitions=2)
    emitter = opened(log=log)
    log.is_holding = True
    emitter.touch("a", ID)
    flushed = threading.Event()
    flusher = threading.Thread(target=lambda: (emitter.flush(PATIENCE_S), flushed.set()))
    flusher.start()
    log.wait_until(lambda: len(log.held) == 1)
    with log.changed:
        (first,) = log.held
    for number in range(50):
        emitter.touch(f"k{number}", ID)
    log.wait_until(lambda: len(log.held) > 1)
    assert not flushed.wait(0.1), "it returns only when all is acknowledged"
    first[1].set_result(log.log.append(first[0]))
    flusher.join(PATIENCE_S)
    assert flushed.is_set(), "what came after it is not waited for"
    with log.changed:
        log.held.remove(first)
        log.is_holding = False
        log.release()
    emitter.flush(PATIENCE_S)


def test_flushes_at_once_all_tell_of_a_failure(opened: Opened) -> None:
    log = Scripted()
    log.script = [lambda _: LogMismatch("another log")]
    gate = threading.Event()
    emitter = opened(log=log, on_failure=lambda *_: gate.wait(PATIENCE_S))
    emitter.touch("a", ID)
    raised: list[NotDelivered] = []

    def flush() -> None:
        try:
            emitter.flush(PATIENCE_S)
        except NotDelivered as error:
            raised.append(error)

    flushers = [threading.Thread(target=flush) for _ in range(3)]
    for each in flushers:
        each.start()
    while emitter._delivery._waiting_callers < 3:
        time.sleep(0.001)  # waits: for three threads to begin to wait
    gate.set()
    for each in flushers:
        each.join(PATIENCE_S)
    assert [error.failed for error in raised] == [1, 1, 1]
    emitter.flush(PATIENCE_S)


def test_an_event_that_the_log_refuses_harms_no_other(opened: Opened) -> None:
    reported: list[int] = []
    log = Scripted()

    def refuse(messages: Sequence[Message]) -> Exception | None:
        return InvalidInput("too large") if any(b'"bad"' in each.value for each in messages) else None

    log.script = [refuse] * 1_000
    log.is_holding = True
    emitter = opened(log=log, on_failure=lambda event, error: reported.append(event.data.if_version))
    for number in range(100):
        emitter.touch("a", ID, if_version=number, message="bad" if number == 37 else None)
    log.is_holding = False
    with log.changed:
        log.release()
    with pytest.raises(NotDelivered, match="too large"):
        emitter.flush(PATIENCE_S)
    assert reported == [37]
    assert numbers(log) == [number for number in range(100) if number != 37]


def test_an_event_that_failed_may_be_emitted_again_by_the_callback(opened: Opened) -> None:
    log = Scripted()
    log.script = [lambda _: LogMismatch("another log")]
    emitter: Emitter

    def again(event: Any, error: Exception) -> None:
        emitter.touch("again", event.data.session_id)
        with pytest.raises(errors.LogError, match="on_failure"):
            emitter.flush(1)

    emitter = opened(log=log, on_failure=again)
    emitter.touch("a", ID)
    with pytest.raises(NotDelivered):
        emitter.flush(PATIENCE_S)
    emitter.flush(PATIENCE_S)
    assert [event.subject for event in stored(log)] == ["again"]


def test_an_internal_fault_is_reported_and_no_caller_waits_forever(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    emitter = opened()
    monkeypatch.setattr(emitter._delivery, "_send", lambda _: 1 / 0)
    emitter.touch("a", ID)
    with pytest.raises((NotDelivered, EngineClosed)):
        emitter.flush(PATIENCE_S)
    with pytest.raises(EngineClosed):
        emitter.touch("a", ID)
    assert "failed" in caplog.text


# ── the end ──


def test_shutting_down_sends_what_there_is_and_then_nothing_is_taken(opened: Opened, url: str) -> None:
    before = set(threading.enumerate())
    with Emitter(url, source=SOURCE) as emitter:
        emitter.touch_many([("a", ID)] * 3_000)
    assert emitter.statistics()["acknowledged"] == 3_000
    assert set(threading.enumerate()) <= before
    for call in (lambda: emitter.touch("a", ID), emitter.flush, lambda: emitter.touch_many([("a", ID)])):
        with pytest.raises(EngineClosed):
            call()
    emitter.shutdown()


def test_shutting_down_tells_what_was_not_sent(opened: Opened) -> None:
    log = Scripted()
    log.script = [lambda _: LogUnavailable("away")] * 10_000
    emitter = opened(log=log)
    emitter.touch_many([("a", ID)] * 3)
    with pytest.raises(NotDelivered) as caught:
        emitter.shutdown(0.1)
    assert (caught.value.failed, caught.value.unknown) == (3, 0)
    assert emitter.statistics()["waiting"] == 0
    log = Scripted()
    log.is_holding = True
    emitter = opened(log=log)
    emitter.touch("a", ID)
    log.wait_until(lambda: bool(log.held))
    with pytest.raises(NotDelivered) as caught:
        emitter.shutdown(0.1)
    assert (caught.value.failed, caught.value.unknown) == (0, 1), "what was under way may be in the log"


def test_an_error_of_the_block_is_not_hidden_by_what_was_not_sent() -> None:
    log = Scripted()
    log.script = [lambda _: LogMismatch("another log")]

    def block() -> None:
        with Emitter("memory://", source=SOURCE) as emitter:
            emitter._delivery.log = log  # type: ignore[assignment]
            emitter.touch("a", ID)
            raise KeyError("of the block")

    with pytest.raises(KeyError) as caught:
        block()
    assert "1 are not in the log" in caught.value.__notes__[0]


PROGRAM = """
import sys, threading, time
from lastseen import Emitter
emitter = Emitter(sys.argv[1], source="/program")
emitter.touch_many([("a", "0123456789abcdefghijkl")] * 5_000)
emitter.flush()
emitter.touch_many([("a", "0123456789abcdefghijkl")] * 5_000)
"""


def run(program: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, url],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise KeyboardInterrupt"])
def test_a_program_that_ends_without_a_word_sends_what_it_has(tmp_path: Path, ending: str) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    ended = run(PROGRAM + ending, url)
    assert (ended.returncode == 0) == (ending == ""), ended.stderr
    log = open_log(url, SystemClock())
    assert log.end_offsets() == [10_001]
    log.close()


def threads_start_at_exit(url: str) -> bool:
    """Whether this Python starts threads in handlers of `atexit`: 3.12.0 and 3.12.1 do not (CPython gh-113964)."""
    ended = run("import atexit, threading; atexit.register(lambda: threading.Thread(target=int).start())", url)
    return "can't create new thread" not in ended.stderr


def test_what_no_thread_can_be_started_for_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    emitter = Emitter(f"sqlite:///{tmp_path}/log.db", source="/program")
    with monkeypatch.context() as patched:
        patched.setattr("lastseen.emitter.delivery._Thread.start", fail)
        with pytest.raises(LogUnavailable, match="can't start new thread"):
            emitter.touch("a", "0123456789abcdefghijkl")
        with pytest.raises(LogUnavailable, match="was not accepted"):
            emitter.touch_many([("a", "0123456789abcdefghijkl")] * 3)
    assert emitter.statistics()["emitted"] == 0
    emitter.touch("a", "0123456789abcdefghijkl")
    emitter.flush()
    assert emitter.statistics()["acknowledged"] == 1
    emitter.shutdown()
    with closing(open_log(f"sqlite:///{tmp_path}/log.db", SystemClock())) as log:
        assert log.end_offsets() == [2]


AT_EXIT = """
import atexit, sys
{first}
from lastseen import Emitter
emitter = Emitter(sys.argv[1], source="/program")
def last():
    for number in range(20):
        emitter.touch(f"k{{number}}", "0123456789abcdefghijkl")
    emitter.touch_many([("a", "0123456789abcdefghijkl")] * 30)
    emitter.open("late")
{then}
emitter.touch("a", "0123456789abcdefghijkl")
"""


@pytest.mark.parametrize(
    ("first", "then"),
    [("atexit.register(lambda: last())", ""), ("", "atexit.register(last)")],
    ids=["a handler from before lastseen was imported", "a handler from after"],
)
def test_what_a_handler_of_atexit_emits_is_sent(tmp_path: Path, first: str, then: str) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    ended = run(AT_EXIT.format(first=first, then=then), url)
    if not threads_start_at_exit(url):
        assert ended.returncode == 0
        assert "LogUnavailable: the thread that sends events cannot be started" in ended.stderr
        return
    assert (ended.returncode, ended.stderr) == (0, "")
    log = open_log(url, SystemClock())
    assert log.end_offsets() == [1 + 1 + 20 + 30 + 1]
    log.close()


def test_what_a_handler_of_atexit_cannot_send_is_said(tmp_path: Path) -> None:
    away = """
import lastseen.emitter.delivery
lastseen.emitter.delivery.EXIT_TIMEOUT_S = 0.3
def unavailable():
    raise lastseen.errors.LogUnavailable("away")
def break_it():
    emitter._delivery._open_log = unavailable
import lastseen
import atexit
atexit.register(lambda: emitter.touch("b", "0123456789abcdefghijkl"))
atexit.register(break_it)
"""
    ended = run(AT_EXIT.format(first="", then=away), f"sqlite:///{tmp_path}/log.db")
    assert ended.returncode == 0, ended.stderr
    if threads_start_at_exit("memory://"):
        # Who says it, the caller or the thread that it started, depends on whose time is over first.
        assert re.search(r"\b1 (are not sent after|events could not be sent within) 0.3 s: they are lost", ended.stderr)
    else:
        assert "LogUnavailable: the thread that sends events cannot be started" in ended.stderr


def test_a_program_that_cannot_send_ends_and_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    hang = """
import lastseen.emitter.delivery
lastseen.emitter.delivery.EXIT_TIMEOUT_S = 0.3
class Away:
    partitions = 1
    def append_soon(self, messages):
        raise lastseen.errors.LogUnavailable("away")
import lastseen
emitter._delivery.log = Away()
emitter.touch("a", "0123456789abcdefghijkl")
"""
    began = paced_s()
    ended = run(PROGRAM + "\nemitter.flush()\n" + hang, url)
    assert paced_s() - began < 30
    assert ended.returncode == 0, ended.stderr
    assert "1 events could not be sent" in ended.stderr


def test_threads_that_outlive_the_main_thread_go_on_emitting(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    work = """
import lastseen.emitter.delivery
lastseen.emitter.delivery.EXIT_TIMEOUT_S = 0.1
class Away:  # for longer than a program that has ended would wait
    partitions, until_s = 1, time.monotonic() + 1
    def append_soon(self, messages):
        if time.monotonic() < self.until_s:
            raise lastseen.errors.LogUnavailable("away")
        return log.append_soon(messages)
    def close(self):
        log.close()
def work():
    global log
    threading.main_thread().join()
    log, emitter._delivery.log = emitter._delivery.log, Away()
    emitter.touch("late", "0123456789abcdefghijkl")
    emitter.flush()
    for _ in range(4):
        emitter.touch("late", "0123456789abcdefghijkl")
        time.sleep(0.4)  # waits: longer than an idle thread takes to see that the program has ended
    emitter.flush()
threading.Thread(target=work).start()
"""
    ended = run(PROGRAM + "emitter.flush()" + work, url)
    assert (ended.returncode, ended.stderr) == (0, "")
    log = open_log(url, SystemClock())
    assert log.end_offsets() == [10_006]
    log.close()


# ── forks ──


def in_child(work: Callable[[], None]) -> int:
    """Do something in a forked child; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_sends_its_own_events_and_none_of_its_parents(opened: Opened, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    emitter = opened(url)
    emitter.touch("before", ID)
    emitter.flush(PATIENCE_S)
    inherited = emitter._delivery
    emitter._delivery.pause()  # so that what follows waits in memory when the process is forked
    emitter.touch_many([("parent", ID)] * 2_000)

    def work() -> None:
        assert emitter._delivery is not inherited
        assert emitter.statistics()["emitted"] == 0
        emitter.touch_many([("child", ID)] * 1_000)
        emitter.shutdown(PATIENCE_S)
        assert emitter.statistics()["acknowledged"] == 1_000

    assert in_child(work) == 0
    emitter.touch("parent", ID)
    emitter.flush(PATIENCE_S)
    log = emitter._delivery.log
    assert log is not None
    subjects = [event.subject for event in stored(log)]
    assert {key: subjects.count(key) for key in set(subjects)} == {"before": 1, "parent": 2_001, "child": 1_000}
    assert len({event.id for event in stored(log)}) == 3_002


def test_no_connection_to_a_file_is_carried_into_a_child(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    emitter = opened(f"sqlite:///{path}")
    stop = threading.Event()

    def emit() -> None:
        while not stop.is_set():
            emitter.touch("a", ID)

    caller = threading.Thread(target=emit)
    caller.start()

    def look() -> None:
        names = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        assert not [name for name in names if name.startswith(str(path))], names

    try:
        for _ in range(10):
            assert in_child(look) == 0
    finally:
        stop.set()
        caller.join()
    emitter.flush(PATIENCE_S)
    counts = emitter.statistics()
    assert counts["emitted"] == counts["acknowledged"] == len(stored(emitter._delivery.log))


def _emit_and_say_nothing(emitter: Emitter) -> None:
    emitter.touch_many([("child", ID)] * 500)


def test_a_child_of_multiprocessing_sends_at_its_end(opened: Opened, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    emitter = opened(url)
    emitter.touch("parent", ID)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_emit_and_say_nothing, args=(emitter,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE_S)
    assert [child.exitcode for child in children] == [0, 0, 0]
    emitter.flush(PATIENCE_S)
    log = open_log(url, SystemClock())
    assert sorted(event.subject for event in stored(log)) == ["child"] * 1_500 + ["parent"]
    log.close()


def test_the_page_names_the_settings_with_their_defaults() -> None:
    import inspect

    page = (Path(__file__).parents[2] / "docs" / "reference" / "emitter.md").read_text(encoding="utf-8")
    for name in list(inspect.signature(Emitter.__init__).parameters)[2:-1]:
        assert re.search(rf"`{name}[`=]", page), name

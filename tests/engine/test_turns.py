"""Callers that come while others append are served together, and each gets an answer of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from stage import T0

from lastseen.embedded.engine import Engine
from lastseen.embedded.settings import Settings
from lastseen.engine import touches
from lastseen.engine.clock import ManualClock
from lastseen.engine.errors import LogUnavailable, NotOwner, OutcomeUnknown, OwnerState, SessionExists, SessionNotFound
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Message, Position, Record
from tests.patience import PATIENCE_S, eventually


class Gate(MemoryLog):
    """A log at which an append waits until it is let through."""

    def __init__(self) -> None:
        super().__init__(ManualClock(T0), genesis=True)
        self.is_shut = False
        self.fails = False
        self.is_unreadable = False
        self.knocked = threading.Event()
        self.opened = threading.Event()
        self.sizes: list[int] = []

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        if self.is_unreadable:
            raise LogUnavailable("log gate: nothing was written")
        return super().read(partition, from_offset, max_records)

    def append(self, messages: Sequence[Message]) -> list[Position]:
        if self.is_shut:
            self.knocked.set()
            assert self.opened.wait(PATIENCE_S)
        self.sizes.append(len(messages))
        if self.fails and len(self.sizes) > 1:
            raise LogUnavailable("log gate: shut")
        return super().append(messages)


class Crowd:
    """Callers of one engine, of whom the first stands at the gate while the others come."""

    def __init__(self, engine: Engine, gate: Gate, pool: ThreadPoolExecutor) -> None:
        self.engine, self.gate, self._pool = engine, gate, pool
        gate.sizes.clear()
        gate.is_shut = True
        self.first = pool.submit(engine.create, "first")
        assert gate.knocked.wait(PATIENCE_S)

    def call(self, what: Callable[[], Any]) -> Future[Any]:
        """One more caller; returns once it waits for its turn."""
        count = len(self.engine._loop.turns.waiting)
        future = self._pool.submit(what)
        eventually(lambda: len(self.engine._loop.turns.waiting) != count or future.done(), every_s=0.0005)
        return future

    def let_through(self) -> None:
        self.gate.is_shut = False
        self.gate.opened.set()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    gate = Gate()
    settings = Settings.of(background=False, snapshot=":memory:", archive_interval=None, touch_precision="5s")
    with Engine(gate, ManualClock(T0), settings) as engine, ThreadPoolExecutor(8) as pool:
        engine.create("alive")
        yield Crowd(engine, gate, pool)


def test_one_append_serves_all_who_waited(crowd: Crowd) -> None:
    waiting = [crowd.call(lambda key=key: crowd.engine.create(key)) for key in ("a", "b", "c")]
    crowd.let_through()
    assert crowd.first.result(PATIENCE_S).key == "first"
    assert [each.result(PATIENCE_S).key for each in waiting] == ["a", "b", "c"]
    assert crowd.gate.sizes == [1, 3]


def test_a_refusal_is_its_own_callers_only(crowd: Crowd) -> None:
    made = crowd.call(lambda: crowd.engine.create("a"))
    refused = crowd.call(lambda: crowd.engine.create("alive"))
    missing = crowd.call(lambda: crowd.engine.close("unknown"))
    crowd.let_through()
    assert isinstance(refused.exception(PATIENCE_S), SessionExists)
    assert isinstance(missing.exception(PATIENCE_S), SessionNotFound)
    assert made.result(PATIENCE_S).key == "a"
    assert crowd.gate.sizes == [1, 1]


def test_what_breaks_in_one_command_breaks_no_other(crowd: Crowd) -> None:
    class Unforeseen(Exception):
        pass

    def make(*_: Any) -> None:
        raise Unforeseen

    broken = crowd.call(lambda: crowd.engine._loop.run("b", make))
    made = crowd.call(lambda: crowd.engine.create("a"))
    crowd.let_through()
    assert isinstance(broken.exception(PATIENCE_S), Unforeseen)
    assert made.result(PATIENCE_S).key == "a"


def test_touches_of_all_who_waited_are_decided_in_one_pass(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, passes = crowd.engine._touches, []
    decide = ours.decide

    def counted(wanted: Sequence[tuple[str, str | None]]) -> Any:
        passes.append([key for key, _ in wanted])
        return decide(wanted)

    monkeypatch.setattr(ours, "decide", counted)
    waiting = [crowd.call(lambda key=key: crowd.engine.touch(key)) for key in ("first", "absent", "first")]
    made = crowd.call(lambda: crowd.engine.create("a"))
    clock = crowd.engine._clock
    assert isinstance(clock, ManualClock)
    clock.advance(10_000)  # else it would be too soon to write them
    crowd.let_through()
    assert [waiting[place].result(PATIENCE_S).version for place in (0, 2)] == [3, 3], "as it is after both"
    assert isinstance(waiting[1].exception(PATIENCE_S), SessionNotFound)
    assert made.result(PATIENCE_S).key == "a"
    assert passes == [["first", "absent", "first"]]
    assert crowd.gate.sizes == [1, 3]


def test_what_breaks_in_deciding_touches_breaks_no_other_command(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unforeseen(Exception):
        pass

    def decide(*_: Any) -> None:
        raise Unforeseen

    monkeypatch.setattr(crowd.engine._touches, "decide", decide)
    broken = crowd.call(lambda: crowd.engine.touch("first"))
    made = crowd.call(lambda: crowd.engine.create("a"))
    crowd.let_through()
    assert isinstance(broken.exception(PATIENCE_S), Unforeseen)
    assert made.result(PATIENCE_S).key == "a"


def test_two_who_open_a_key_at_once_get_one_session(crowd: Crowd) -> None:
    opened = [crowd.call(lambda: crowd.engine.open("k")) for _ in range(3)]
    crowd.let_through()
    assert len({each.result(PATIENCE_S).session_id for each in opened}) == 1


def test_what_cannot_be_appended_fails_for_all_who_waited(crowd: Crowd) -> None:
    crowd.gate.fails = True
    waiting = [crowd.call(lambda key=key: crowd.engine.create(key)) for key in ("a", "b")]
    silent = crowd.call(lambda: crowd.engine._loop.run("alive", lambda *_: None))
    crowd.let_through()
    assert silent.result(PATIENCE_S) is None, "a caller that has nothing to write does not learn of it"
    assert all(isinstance(each.exception(PATIENCE_S), LogUnavailable) for each in waiting)
    assert crowd.engine._follower._awaited == {}, "no caller waits for them any more"


def test_an_error_reaches_all_who_waited_with_all_that_it_says(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = NotOwner("partition 0 has moved", "owner:1", OwnerState.KNOWN)

    def append(messages: Sequence[Message]) -> list[Position]:
        raise moved

    waiting = [crowd.call(lambda key=key: crowd.engine.create(key)) for key in ("a", "b")]
    monkeypatch.setattr(crowd.engine._loop, "_log", SimpleNamespace(append=append))
    crowd.let_through()
    found = [each.exception(PATIENCE_S) for each in waiting]
    assert [(type(each), str(each)) for each in found] == [(NotOwner, str(moved))] * 2
    assert [(each.address, each.owner) for each in found if isinstance(each, NotOwner)] == [
        ("owner:1", OwnerState.KNOWN)
    ] * 2
    assert len({id(each) for each in found}) == 2, "each raises one of its own"


def test_who_has_nothing_to_write_does_not_wait(crowd: Crowd) -> None:
    assert crowd.call(lambda: crowd.engine.open("alive")).result(PATIENCE_S).key == "alive"
    assert crowd.call(lambda: crowd.engine.touch("alive")).result(PATIENCE_S).key == "alive"
    assert not crowd.first.done()
    crowd.let_through()


def test_it_is_decided_on_what_the_turn_before_left(crowd: Crowd) -> None:
    refused = crowd.call(lambda: crowd.engine.create("first"))
    crowd.let_through()
    assert isinstance(refused.exception(PATIENCE_S), SessionExists)
    assert crowd.gate.sizes == [1], "refused before anything was appended"


def test_what_was_appended_and_cannot_be_read_back_is_not_said_to_be_unwritten(crowd: Crowd) -> None:
    waiting = [crowd.call(lambda key=key: crowd.engine.create(key)) for key in ("a", "b")]
    crowd.gate.is_unreadable = True
    crowd.let_through()
    for each in (crowd.first, *waiting):
        assert isinstance(each.exception(PATIENCE_S), OutcomeUnknown)
    with pytest.raises(OutcomeUnknown, match="is in the log"):
        crowd.engine.touch("alive", message="not coalesced")
    crowd.gate.is_unreadable = False
    crowd.engine.refresh()
    assert {session.key for session in crowd.engine.list().sessions} == {"alive", "first", "a", "b"}
    assert crowd.engine._follower._awaited == {}, "no caller waits for them any more"


def test_a_large_batch_of_touches_lets_readers_in_between(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd.let_through()
    crowd.first.result(PATIENCE_S)
    engine, read = crowd.engine, list[str]()

    def pause() -> None:
        session = engine.get("alive")  # would wait for ever if the lock were held
        assert session is not None
        read.append(session.key)

    monkeypatch.setattr(touches, "pause", pause)
    assert len(engine.touch_many(["first"] * (2 * touches.UNDER_LOCK + 1))) == 2 * touches.UNDER_LOCK + 1
    assert read == ["alive", "alive"]

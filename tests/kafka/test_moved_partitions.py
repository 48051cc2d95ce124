"""A partition moves to another engine in the middle of a call: nothing is stored twice, and no error says otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from kafka_topics import eventually, new_url

import lastseen
from lastseen import Client, Engine
from lastseen.engine.errors import NotOwner, OutcomeUnknown
from lastseen.engine.log.port import Message, Position
from tests.http.served import Served
from tests.kafka_fixtures import SharedBroker
from tests.patience import PATIENCE_S

KEY = "user:ana"
Append = Callable[[Sequence[Message]], Sequence[Position]]


class Instance:
    """An engine that holds what it owns, and its service."""

    def __init__(self, url: str, snapshot: Path, stack: ExitStack) -> None:
        self.engine: Engine = stack.enter_context(
            lastseen.open_engine(url, view="owned", address="127.0.0.1:1", snapshot=str(snapshot))
        )
        self.served = stack.enter_context(Served(self.engine))
        # The port is known only now; the group has it from the next join on.
        self.address = self.served.address

    def holds(self) -> bool:
        return self.engine.held() == {0}


@pytest.fixture
def pair(kafka_broker: SharedBroker, tmp_path: Path) -> Iterator[tuple[Instance, Instance]]:
    """Two instances on a log of one partition, which the first holds."""
    url = new_url(kafka_broker.address, 1)
    with ExitStack() as stack:
        one = Instance(url, tmp_path / "one.snapshot", stack)
        assert eventually(one.holds)
        yield one, Instance(url, tmp_path / "two.snapshot", stack)


def pause_append(engine: Engine, before: bool) -> tuple[threading.Event, threading.Event]:
    """Have the engine's next append wait before it is made, or after: an event for its arrival, one to let it go on.

    Meanwhile no thread of the engine's folds what was appended: what has been folded has a known outcome.
    """
    arrived, may_go = threading.Event(), threading.Event()
    append: Append = engine._log.append

    def paused(messages: Sequence[Message]) -> Sequence[Position]:
        engine._log.append = append  # type: ignore[method-assign, assignment]
        shared, asked = engine._duties._log, threading.Event()
        assert shared is not None

        def unchanged(ends: Sequence[int], timeout_s: float) -> list[int]:
            asked.set()
            threading.Event().wait(timeout_s / 10)
            return list(ends)

        shared.await_growth = unchanged  # type: ignore[method-assign]
        assert asked.wait(PATIENCE_S), "a question from before would be answered"
        if not before:
            done = append(messages)
        arrived.set()
        assert may_go.wait(PATIENCE_S)
        del shared.await_growth  # type: ignore[method-assign]
        return append(messages) if before else done

    engine._log.append = paused  # type: ignore[method-assign, assignment]
    return arrived, may_go


def lose(instance: Instance) -> None:
    """Take the partition from an engine that goes on, as when the group gives it to another."""
    duties = instance.engine._duties
    assert duties._membership is not None
    duties._membership.leave()
    # An engine that has left by itself serves on until it closes; one whose partition was given away does not.
    duties.to_hold = frozenset  # type: ignore[method-assign]
    assert eventually(lambda: not instance.engine._views.present)


def move(one: Instance, two: Instance) -> None:
    """Move the partition from one engine to the other."""
    lose(one)
    assert eventually(two.holds)


@pytest.mark.parametrize("before", [False, True], ids=["after the append", "before it"])
def test_a_partition_that_moves_between_append_and_fold_leaves_the_outcome_unknown_and_one_message(
    pair: tuple[Instance, Instance], before: bool
) -> None:
    one, two = pair
    with Client([one.address, two.address], timeout=PATIENCE_S) as client, ThreadPoolExecutor(1) as threads:
        client.open(KEY)
        arrived, may_go = pause_append(one.engine, before)
        touched = threads.submit(client.touch, KEY, message="hello")
        assert arrived.wait(PATIENCE_S)
        move(one, two)
        may_go.set()
        with pytest.raises(OutcomeUnknown):
            touched.result(PATIENCE_S)
        after = client.touch(KEY, message="second")
        assert after is not None
        assert [message.value for message in client.messages(KEY)] == ["hello", "second"]
        assert [message.value for message in two.engine.messages(KEY)] == ["hello", "second"]
        with pytest.raises(NotOwner):
            one.engine.get(KEY)


def test_what_is_safe_to_repeat_is_repeated_at_the_new_owner(pair: tuple[Instance, Instance]) -> None:
    one, two = pair
    with Client([one.address, two.address], timeout=PATIENCE_S) as client, ThreadPoolExecutor(1) as threads:
        session_id = client.open(KEY).session_id
        arrived, may_go = pause_append(one.engine, before=False)
        closed = threads.submit(client.close, KEY, session_id=session_id)
        assert arrived.wait(PATIENCE_S)
        move(one, two)
        may_go.set()
        closed.result(PATIENCE_S)
        assert client.get(KEY) is None
        created = client.create(KEY)
        arrived, may_go = pause_append(two.engine, before=False)
        rotated = threads.submit(client.rotate, KEY)
        assert arrived.wait(PATIENCE_S)
        lose(two)
        may_go.set()
        with pytest.raises(OutcomeUnknown):
            rotated.result(PATIENCE_S)
        assert created.session_id != session_id


def test_a_caller_that_waits_for_its_turn_while_the_partition_moves_appends_nothing(
    pair: tuple[Instance, Instance],
) -> None:
    one, two = pair
    one.engine.open(KEY)
    with ThreadPoolExecutor(2) as threads:
        arrived, may_go = pause_append(one.engine, before=False)
        leader = threads.submit(one.engine.touch, KEY, message="first")
        assert arrived.wait(PATIENCE_S)
        waits = threads.submit(one.engine.touch, KEY, message="second")
        assert eventually(lambda: bool(one.engine._loop.turns.waiting))
        move(one, two)
        may_go.set()
        with pytest.raises(OutcomeUnknown):
            leader.result(PATIENCE_S)
        with pytest.raises(NotOwner):
            waits.result(PATIENCE_S)
    two.engine.touch(KEY, message="third")
    assert [message.value for message in two.engine.messages(KEY)] == ["first", "third"]


def test_a_partition_that_moves_away_and_back_does_not_fail(pair: tuple[Instance, Instance]) -> None:
    one, _ = pair
    one.engine.open(KEY)
    awaited = one.engine._follower.expect("an event", 0)
    with one.engine._views.lock:
        one.engine._follower.reset(0)
    with pytest.raises(OutcomeUnknown, match="and back"):
        awaited.fail_as_lost()
    one.engine._follower.forget("an event")
    assert one.engine.touch(KEY).version == 2, "no record is missing: the partition goes on"

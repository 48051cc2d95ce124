"""Touches gathered in an event loop: one append a turn, each caller its own outcome, and none lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stage import KEY, MIN, LogBetween, S, Stage

from lastseen import Engine
from lastseen.aio.touch_batch import TouchBatch
from lastseen.engine.errors import (
    EngineClosed,
    InvalidKey,
    LogUnavailable,
    OutcomeUnknown,
    SessionEnded,
    SessionNotFound,
    SessionSuspended,
    StaleSession,
)
from tests.patience import PATIENCE_S


def run(engine: Engine, story: Callable[[TouchBatch], Awaitable[None]], **options: Any) -> None:
    """Run a story with a batch that is closed in the end."""

    async def received() -> None:
        batch = TouchBatch(engine, **options)
        try:
            await asyncio.wait_for(story(batch), PATIENCE_S)
        finally:
            await asyncio.wait_for(batch.close(), PATIENCE_S)

    asyncio.run(received())


async def a_turn() -> None:
    """Let the other coroutines run once."""
    await asyncio.sleep(0)  # waits: for a turn of the loop, no time


class Gate:
    """Holds appends up until it is opened, and counts them."""

    def __init__(self, engine: Engine, *, is_open: bool = True) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.appended: list[int] = []
        self.log = engine._log
        engine._loop._log = self  # type: ignore[assignment]
        if is_open:
            self.go_on.set()

    def append(self, messages: Any) -> Any:
        self.entered.set()
        assert self.go_on.wait(PATIENCE_S)
        self.appended.append(len(messages))
        return self.log.append(messages)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    async def is_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, PATIENCE_S)


def test_the_touches_of_a_turn_are_one_append(engine: Engine) -> None:
    keys = [f"key-{number}" for number in range(50)]
    for key in keys:
        engine.open(key)
    gate = Gate(engine)

    async def story(batch: TouchBatch) -> None:
        sessions = await asyncio.gather(*(batch.touch(key) for key in keys))
        assert [session.key for session in sessions] == keys
        assert {session.version for session in sessions} == {2}

    run(engine, story)
    assert gate.appended == [50]


def test_what_comes_while_a_batch_is_under_way_is_the_next(engine: Engine) -> None:
    engine.open(KEY)
    gate = Gate(engine, is_open=False)

    async def story(batch: TouchBatch) -> None:
        first = asyncio.create_task(batch.touch(KEY))
        await gate.is_entered()
        others = [asyncio.create_task(batch.touch(KEY)) for _ in range(9)]
        await a_turn()
        assert batch.waiting == 10
        gate.go_on.set()
        versions = [(await task).version for task in [first, *others]]
        assert versions == [2] + 9 * [11]  # the sessions are shown as they are after the whole batch

    run(engine, story)
    assert gate.appended == [1, 9]


def test_each_caller_hears_its_own_refusal(engine: Engine) -> None:
    engine.open(KEY)
    engine.open("suspended")
    engine.suspend("suspended")

    async def story(batch: TouchBatch) -> None:
        answers = await asyncio.gather(
            batch.touch("unknown"), batch.touch(KEY), batch.touch("suspended"), batch.touch(""), return_exceptions=True
        )
        assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [
            SessionNotFound, SessionSuspended, InvalidKey,
        ]  # fmt: skip
        assert answers[1].version == 2  # type: ignore[union-attr]

    run(engine, story)


def test_a_touch_may_be_pinned_to_its_session(engine: Engine) -> None:
    before = engine.open(KEY)
    now = engine.rotate(KEY)

    async def story(batch: TouchBatch) -> None:
        assert (await batch.touch(KEY, now.session_id)).version == 2
        with pytest.raises(SessionEnded):
            await batch.touch(KEY, before.session_id)
        with pytest.raises(StaleSession):
            await batch.touch(KEY, "x" * 22)

    run(engine, story)


def test_a_session_that_changes_hands_meanwhile_is_decided_again(on_disk: Stage) -> None:
    engine, other = on_disk.open(), on_disk.open(snapshot=":memory:")
    engine.open(KEY)
    other.refresh()
    between = LogBetween(engine._log)
    between.before_append.append(lambda: other.rotate(KEY))
    engine._loop._log = between  # type: ignore[assignment]

    async def story(batch: TouchBatch) -> None:
        session = await batch.touch(KEY)
        assert session.version == 2
        assert session.session_id == engine.session_spans(KEY)[-1].session_id

    run(engine, story)
    assert len(engine.session_spans(KEY)) == 2


def test_a_caller_that_is_cancelled_takes_nothing_from_the_others(engine: Engine) -> None:
    for key in ("a", "b", "c"):
        engine.open(key)
    gate = Gate(engine, is_open=False)

    async def story(batch: TouchBatch) -> None:
        tasks = [asyncio.create_task(batch.touch(key)) for key in ("a", "b", "c")]
        await gate.is_entered()
        tasks[1].cancel()
        waiting = asyncio.create_task(batch.touch("b"))
        await a_turn()
        waiting.cancel()
        gate.go_on.set()
        assert (await tasks[0]).version == (await tasks[2]).version == 2
        for task in (tasks[1], waiting):
            with pytest.raises(asyncio.CancelledError):
                await task

    run(engine, story)
    # What was sent when its caller was cancelled is in the log; what was not, is not.
    assert engine.open("b").version == 2
    assert gate.appended == [3]


def test_more_than_may_wait_are_refused_and_the_place_is_given_again(engine: Engine) -> None:
    engine.open(KEY)
    gate = Gate(engine, is_open=False)

    async def story(batch: TouchBatch) -> None:
        session_id = engine.open(KEY).session_id
        taken = [asyncio.create_task(batch.touch(KEY)), asyncio.create_task(batch.touch(KEY, session_id))]
        await gate.is_entered()
        for pinned in (None, session_id):
            with pytest.raises(LogUnavailable, match="2 touches wait"):
                await batch.touch(KEY, pinned)
        gate.go_on.set()
        await asyncio.gather(*taken)
        assert (await batch.touch(KEY)).version == 4
        assert batch.waiting == 0

    run(engine, story, max_waiting=2)


def test_an_append_that_fails_is_an_error_for_every_caller(engine: Engine) -> None:
    engine.open("a")
    engine.open("b")
    between = LogBetween(engine._log)
    engine._loop._log = between  # type: ignore[assignment]

    def unavailable() -> None:
        raise LogUnavailable("the disk is full")

    def broken() -> None:
        raise ValueError("a fault of ours")

    async def story(batch: TouchBatch) -> None:
        for fault, kind in ((unavailable, LogUnavailable), (broken, OutcomeUnknown)):
            between.before_append.append(fault)
            answers = await asyncio.gather(batch.touch("a"), batch.touch("b"), return_exceptions=True)
            assert [type(answer) for answer in answers] == [kind, kind]
            assert answers[0] is not answers[1]
        assert (await batch.touch("a")).version == 2

    run(engine, story)


def test_closing_waits_for_what_is_here_and_takes_no_more(engine: Engine) -> None:
    engine.open(KEY)
    gate = Gate(engine, is_open=False)

    async def story(batch: TouchBatch) -> None:
        tasks = [asyncio.create_task(batch.touch(KEY)) for _ in range(3)]
        await gate.is_entered()
        late = asyncio.create_task(batch.touch(KEY))
        await a_turn()
        closing = asyncio.create_task(batch.close())
        await a_turn()
        with pytest.raises(EngineClosed):
            await batch.touch(KEY)
        assert not closing.done()
        gate.go_on.set()
        await closing
        assert all(task.done() for task in [*tasks, late])
        assert (await late).version == 5

    run(engine, story)


def test_what_comes_back_does_not_wait_for_the_disk(on_disk: Stage) -> None:
    engine = on_disk.open(max_body_bytes=1)
    engine.open(KEY, attributes={"owner": "ana", "n": 7})
    engine.flush()
    engine.open("other", attributes={"text": "x" * 200})
    engine.flush()

    async def story(batch: TouchBatch) -> None:
        session = await batch.touch(KEY)
        engine.flush()
        engine._state.snapshot.close()
        assert session.attributes == {"owner": "ana", "n": 7}

    run(engine, story)


def test_a_touch_too_soon_is_not_written(stage: Stage) -> None:
    engine = stage.open(touch_precision="1m")
    engine.open(KEY)

    async def story(batch: TouchBatch) -> None:
        stage.clock.advance(30 * S)
        assert (await batch.touch(KEY)).version == 1
        stage.clock.advance(MIN)
        assert (await batch.touch(KEY)).version == 2

    run(engine, story)

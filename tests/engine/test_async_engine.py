"""The engine in an event loop: the same results and errors, a loop that goes on, and nothing lost when cancelled."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from stage import KEY, MIN, LogBetween, S, Stage
from test_engine_machine import EngineAgainstNaive

import lastseen
from lastseen import AsyncEngine, Engine, open_async
from lastseen.aio import engine as async_engine
from lastseen.engine.commands import Commands
from lastseen.engine.errors import (
    EngineClosed,
    InvalidSetting,
    LastseenError,
    LogUnavailable,
    SessionEnded,
    TooManyHolders,
)
from tests.patience import PATIENCE_S, eventually_async

READS = (
    "get",
    "get_by_id",
    "list",
    "messages",
    "history",
    "session_spans",
    "explain",
    "as_of",
    "statistics",
    "subscribe",
    "prune",
)


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story in an event loop, for so long and no longer."""

    async def received() -> None:
        await asyncio.wait_for(story(), PATIENCE_S)

    asyncio.run(received())


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another coroutine or thread does."""
    await eventually_async(condition, every_s=0.001)


class InLoop:
    """An `AsyncEngine` called from outside its loop, as if it were an `Engine`."""

    def __init__(self, engine: Engine) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="lastseen-test-loop")
        self.thread.start()
        self.engine = engine
        self.twin = AsyncEngine(engine)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.twin, name)
        return lambda *args, **options: self.wait(method(*args, **options))

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    def end(self) -> None:
        self.wait(self.twin.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class AsyncEngineAgainstNaive(EngineAgainstNaive):
    """The same machine, its commands through the twins of both engines."""

    def caller(self, by_other: bool) -> Any:
        engine = super().caller(by_other)
        twins: dict[int, InLoop] = self.__dict__.setdefault("twins", {})
        if id(engine) not in twins:
            twins[id(engine)] = InLoop(engine)
        return twins[id(engine)]

    def teardown(self) -> None:
        super().teardown()
        for twin in self.__dict__.get("twins", {}).values():
            twin.end()


TestAsyncEngineAgainstNaive = AsyncEngineAgainstNaive.TestCase
TestAsyncEngineAgainstNaive.settings = settings(max_examples=12, stateful_step_count=25)


def test_every_command_and_read_is_there() -> None:
    def offered(kind: type) -> dict[str, Any]:
        methods = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
        return {name: method for name, method in methods.items() if callable(method)}

    ours, theirs = offered(AsyncEngine), offered(Engine)
    assert {*offered(Commands), *READS} - {"append_and_fold", "append_and_answer"} <= set(ours)
    for name, method in ours.items():
        assert inspect.signature(method).parameters.keys() == inspect.signature(theirs[name]).parameters.keys(), name
        assert method.__doc__, name
        assert (name in {"hold", "subscribe"}) != inspect.iscoroutinefunction(method), name


def test_a_service_opens_uses_and_closes_it(on_disk: Stage) -> None:
    async def story() -> None:
        async with await open_async(on_disk.url, clock=on_disk.clock, idle_ttl="30m") as engine:
            session = await engine.open(KEY, attributes={"owner": "ana"})
            assert (await engine.open(KEY)).session_id == session.session_id
            touched = await engine.touch(KEY)
            assert touched is not None
            assert touched.version == 2
            assert dict((await engine.update(KEY, {"n": 1})).attributes) == {"owner": "ana", "n": 1}
            await engine.touch(KEY, message={"said": "hello"})
            assert len(await engine.messages(KEY)) == 1
            assert [each.key for each in (await engine.list()).sessions] == [KEY]
            assert (await engine.prune(dry_run=True)).due == []
            await engine.close(KEY, reason="logout")
            assert await engine.get(KEY) is None
            with pytest.raises(SessionEnded):
                await engine.touch(KEY)
            assert "closed it (logout" in (await engine.explain(KEY)).sentence
        with pytest.raises(EngineClosed):
            await engine.get(KEY)
        with pytest.raises(EngineClosed):
            await engine.touch(KEY)
        await engine.shutdown()

    run(story)


def test_what_cannot_be_opened_says_so(on_disk: Stage) -> None:
    async def story() -> None:
        with pytest.raises(InvalidSetting):
            await open_async(on_disk.url, idle_ttl=0)

    run(story)


def test_an_opening_that_is_cancelled_leaves_no_engine_behind(on_disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    may_open, opened = threading.Event(), []

    def slowly(*args: Any, **options: Any) -> Engine:
        may_open.wait(PATIENCE_S)
        opened.append(lastseen.open_engine(*args, **options))
        return opened[0]

    monkeypatch.setattr(async_engine, "open_engine", slowly)

    async def story() -> None:
        opening = asyncio.create_task(open_async(on_disk.url, clock=on_disk.clock))
        await until(lambda: any(thread.name.startswith("lastseen-open") for thread in threading.enumerate()))
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        may_open.set()
        await until(lambda: opened and opened[0]._is_closed)

    run(story)


def test_the_loop_goes_on_while_the_log_is_slow(engine: Engine) -> None:
    between, may_append = LogBetween(engine._log), threading.Event()
    engine._loop._log = between  # type: ignore[assignment]
    between.before_append.append(lambda: may_append.wait(PATIENCE_S))

    async def story() -> None:
        twin = AsyncEngine(engine)
        opening = asyncio.create_task(twin.open(KEY))
        await until(lambda: not between.before_append)
        assert await twin.get(KEY) is None  # reads go on as well
        assert not opening.done()
        may_append.set()
        assert (await opening).key == KEY
        await twin.shutdown()

    run(story)


def test_many_at_once_are_as_one_after_the_other(engine: Engine) -> None:
    keys = [f"key-{number}" for number in range(40)]

    async def story() -> None:
        async with AsyncEngine(engine) as twin:
            same = await asyncio.gather(*(twin.open(key) for key in keys for _ in range(3)))
            assert len({session.session_id for session in same}) == 40
            await asyncio.gather(*(twin.touch(key) for key in keys for _ in range(5)))
            await asyncio.gather(*(twin.touch(key, message=n) for n, key in enumerate(keys)))
            sessions = (await twin.list()).sessions
            assert {session.version for session in sessions} == {7}
            assert len(await twin.touch_many(keys)) == 40

    run(story)


def test_a_cancelled_call_that_has_begun_goes_on_to_its_end(engine: Engine) -> None:
    between, may_append = LogBetween(engine._log), threading.Event()
    engine._loop._log = between  # type: ignore[assignment]
    between.before_append.append(lambda: may_append.wait(PATIENCE_S))

    async def story() -> None:
        twin = AsyncEngine(engine)
        opening = asyncio.create_task(twin.open(KEY))
        await until(lambda: not between.before_append)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        may_append.set()
        await until(lambda: engine.get(KEY) is not None)
        await twin.shutdown()

    run(story)


def test_more_calls_than_may_wait_are_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_engine, "MAX_WAITING", 3)

    async def story() -> None:
        async with AsyncEngine(engine) as twin:
            answers = await asyncio.gather(*(twin.open(f"key-{n}") for n in range(5)), return_exceptions=True)
            assert [type(answer) for answer in answers[3:]] == [LogUnavailable, LogUnavailable]
            assert [answer.key for answer in answers[:3]] == ["key-0", "key-1", "key-2"]  # type: ignore[union-attr]
            assert (await twin.open("later")).version == 1

    run(story)


def test_what_comes_back_is_whole(on_disk: Stage) -> None:
    engine = on_disk.open(max_body_bytes=1)

    async def story() -> None:
        twin = AsyncEngine(engine)
        for n in range(3):
            await twin.open(f"key-{n}", attributes={"n": n})
        await twin.flush()
        one, page = await twin.get("key-0"), await twin.list(sort="created")
        await twin.shutdown()
        assert one is not None
        # The engine is gone, and what it gave is still there.
        assert one.attributes == {"n": 0}
        assert [session.attributes for session in page.sessions] == [{"n": 0}, {"n": 1}, {"n": 2}]

    run(story)


# ── holds ──


def test_a_hold_is_renewed_while_its_block_runs_and_given_up_after(stage: Stage) -> None:
    engine = stage.open()

    async def story() -> None:
        twin = AsyncEngine(engine, stage.clock)
        await twin.open(KEY)
        async with twin.hold(KEY, holder="job", lease_ms=60) as held:
            assert held.holder == "job"
            first = engine.open(KEY).holders["job"]
            assert first == stage.clock.now_ms() + 60
            stage.clock.advance(20)
            await until(lambda: engine.open(KEY).holders["job"] == first + 20)
            # The worker thread has renewed it; the event loop takes the answer up later.
            await until(lambda: held.session is not None and held.session.version == 3)
        assert engine.open(KEY).holders == {}
        assert held.lost is None
        await twin.shutdown()

    run(story)


def test_a_hold_that_cannot_be_renewed_says_so_and_the_block_goes_on(stage: Stage) -> None:
    engine = stage.open()

    async def story() -> None:
        twin = AsyncEngine(engine, stage.clock)
        await twin.open(KEY)
        async with twin.hold(KEY, lease_ms=30) as held:
            await twin.close(KEY)
            stage.clock.advance(10)
            await until(lambda: held.lost)
        assert isinstance(held.lost, SessionEnded)
        await twin.shutdown()

    run(story)


def test_a_hold_that_is_refused_is_not_entered(engine: Engine) -> None:
    async def story() -> None:
        async with AsyncEngine(engine) as twin:
            await twin.open(KEY)
            for n in range(16):
                await twin.take_lease(KEY, f"job-{n}", MIN)
            with pytest.raises(TooManyHolders):
                async with twin.hold(KEY):
                    pytest.fail("it is held by 16 others")

    run(story)


def test_who_is_cancelled_while_the_lease_is_taken_holds_nothing(engine: Engine) -> None:
    engine.open(KEY)
    between, may_append = LogBetween(engine._log), threading.Event()
    engine._loop._log = between  # type: ignore[assignment]

    async def story() -> None:
        twin = AsyncEngine(engine)
        between.before_append.append(lambda: may_append.wait(PATIENCE_S))

        async def work() -> None:
            async with twin.hold(KEY, holder="job"):
                pytest.fail("it was cancelled before")

        working = asyncio.create_task(work())
        await until(lambda: not between.before_append)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        may_append.set()
        await until(lambda: engine.open(KEY).version == 3)
        assert engine.open(KEY).holders == {}
        await twin.shutdown()

    run(story)


def test_a_block_that_is_cancelled_gives_its_lease_up(engine: Engine) -> None:
    engine.open(KEY)

    async def story() -> None:
        twin = AsyncEngine(engine)

        async def work() -> None:
            async with twin.hold(KEY, holder="job"):
                await asyncio.Event().wait()

        working = asyncio.create_task(work())
        await until(lambda: engine.open(KEY).holders)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        await until(lambda: not engine.open(KEY).holders)
        await twin.shutdown()

    run(story)


# ── facts ──


def test_facts_arrive_in_order_and_end_with_the_engine(engine: Engine) -> None:
    async def story() -> None:
        twin = AsyncEngine(engine)
        heard = []

        async def listen() -> None:
            async for fact in twin.subscribe():
                heard.append((fact.kind, fact.key))  # noqa: PERF401 - the test looks at it meanwhile

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)  # waits: for a turn of the loop, no time
        for n in range(5):
            await twin.open(f"key-{n}")
        await twin.close("key-0")
        await until(lambda: len(heard) == 6)
        assert heard == [*(("created", f"key-{n}") for n in range(5)), ("ended", "key-0")]
        await twin.shutdown()
        await listening
        with pytest.raises(EngineClosed):
            twin.subscribe()

    run(story)


def test_waiting_for_a_fact_that_is_cancelled_loses_none(engine: Engine) -> None:
    async def story() -> None:
        async with AsyncEngine(engine) as twin, twin.subscribe() as facts:
            heard: list[str] = []
            for n in range(4):
                with suppress(TimeoutError):
                    while True:
                        heard.append((await asyncio.wait_for(anext(facts), 0.005)).key)
                await twin.open(f"key-{n}")
            while len(heard) < 4:
                heard.append((await anext(facts)).key)
            assert heard == ["key-0", "key-1", "key-2", "key-3"]

    run(story)


def test_a_listener_that_falls_behind_is_notified(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastseen.projections.subscriptions.QUEUED_FACTS", 5)
    monkeypatch.setattr("lastseen.aio.subscription.AHEAD", 2)

    async def story() -> None:
        async with AsyncEngine(engine) as twin:
            facts = twin.subscribe()
            await twin.open(KEY)
            for _ in range(20):
                await twin.update(KEY, {"n": 1})
            with pytest.raises(LastseenError, match="fell 5 facts behind"):
                async for _ in facts:
                    pass
            with pytest.raises(StopAsyncIteration):
                await anext(facts)

    run(story)


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_listener_that_goes_leaves_no_thread(
    engine: Engine, is_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastseen.aio.subscription.AHEAD", 2)

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "lastseen-subscription"]

    async def story() -> None:
        async with AsyncEngine(engine) as twin:
            await twin.open(KEY)
            facts = twin.subscribe()
            await twin.touch(KEY)
            assert (await anext(facts)).kind == "touched"
            for _ in range(9):
                await twin.touch(KEY)
            assert threads()
            if is_closed:
                await facts.close()
                with pytest.raises(StopAsyncIteration):
                    await anext(facts)
            del facts
            await until(lambda: not threads())

    run(story)


def test_who_waits_for_a_fact_hears_that_it_was_closed(engine: Engine) -> None:
    async def story() -> None:
        async with AsyncEngine(engine) as twin:
            facts = twin.subscribe()

            async def listen() -> list[Any]:
                return [fact async for fact in facts]

            listening = asyncio.create_task(listen())
            await asyncio.sleep(0.005)  # waits: so that it listens; if it does not yet, the test is weaker, not wrong
            await facts.close()
            assert await listening == []

    run(story)


def test_a_session_that_has_ended_says_so_to_a_pinned_touch(engine: Engine) -> None:
    async def story() -> None:
        async with AsyncEngine(engine) as twin:
            before = await twin.open(KEY)
            await twin.rotate(KEY)
            with pytest.raises(SessionEnded):
                await twin.touch(KEY, session_id=before.session_id)
            assert (await twin.touch(KEY, wait="appended")) is None

    run(story)


def test_a_touch_within_the_precision_is_not_written(stage: Stage) -> None:
    engine = stage.open(touch_precision="1m")

    async def story() -> None:
        async with AsyncEngine(engine) as twin:
            await twin.open(KEY)
            stage.clock.advance(30 * S)
            assert (await twin.touch(KEY) or pytest.fail("no session")).version == 1
            stage.clock.advance(MIN)
            assert (await twin.touch(KEY) or pytest.fail("no session")).version == 2

    run(story)


# ── several loops ──


def test_it_may_be_used_and_shut_down_in_a_second_loop(on_disk: Stage) -> None:
    engine: AsyncEngine | None = None

    async def first() -> None:
        nonlocal engine
        engine = await open_async(on_disk.url, clock=on_disk.clock)
        await engine.open(KEY)
        await asyncio.gather(*(engine.touch(KEY) for _ in range(20)))

    async def second() -> None:
        assert engine is not None
        await asyncio.gather(*(engine.touch(KEY) for _ in range(20)))
        session = await engine.get(KEY)
        assert session is not None
        assert session.version == 41
        await engine.shutdown()
        await engine.shutdown()
        with pytest.raises(EngineClosed):
            await engine.touch(KEY)

    async def third() -> None:
        assert engine is not None
        await engine.shutdown()
        with pytest.raises(EngineClosed):
            await engine.touch(KEY)

    run(first)
    run(second)
    run(third)


def test_a_loop_that_ended_during_touches_keeps_no_other_from_shutting_down(on_disk: Stage) -> None:
    engine = AsyncEngine(on_disk.open())
    at_work, go_on = threading.Event(), threading.Event()
    touch_many = engine.engine.touch_many

    def slow(*arguments: Any, **options: Any) -> Any:
        at_work.set()
        assert go_on.wait(PATIENCE_S)
        return touch_many(*arguments, **options)

    engine.engine.touch_many = slow  # type: ignore[method-assign]

    async def first() -> None:
        await engine.open(KEY)
        left = asyncio.ensure_future(engine.touch(KEY))
        await until(at_work.is_set)
        left.cancel()

    async def second() -> None:
        threading.Timer(0.05, go_on.set).start()
        await engine.shutdown()

    run(first)
    run(second)


def test_two_loops_at_a_time_share_an_engine(on_disk: Stage) -> None:
    engine = AsyncEngine(on_disk.open())
    failures: list[BaseException] = []
    is_used = threading.Event()
    is_over = threading.Event()

    async def other() -> None:
        await asyncio.gather(*(engine.touch(KEY) for _ in range(50)))
        is_used.set()
        await until(is_over.is_set)

    def thread() -> None:
        try:
            asyncio.run(other())
        except BaseException as error:
            failures.append(error)

    async def story() -> None:
        session = await engine.open(KEY)
        beside = threading.Thread(target=thread)
        beside.start()
        await asyncio.gather(*(engine.touch(KEY) for _ in range(50)))
        await until(is_used.is_set)
        found = await engine.get(KEY)
        assert found is not None
        assert (found.session_id, found.version) == (session.session_id, 101)
        await engine.shutdown()
        is_over.set()
        await asyncio.to_thread(beside.join)

    run(story)
    assert failures == []

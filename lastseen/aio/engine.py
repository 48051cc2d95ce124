"""`lastseen.AsyncEngine`: the engine for asyncio services. The same methods as coroutines, the same results and errors.

Calls run in threads, so the loop never waits for the log, a lock or the disk. Plain touches are gathered, in
`touch_batch`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial, update_wrapper
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from weakref import WeakKeyDictionary

from lastseen.aio.hold import AsyncHold
from lastseen.aio.subscription import AsyncSubscription
from lastseen.aio.touch_batch import TouchBatch
from lastseen.embedded.engine import Engine
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.opening import open_engine
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.errors import EngineClosed, LastseenError, LogUnavailable
from lastseen.engine.session import Policy, SessionView
from lastseen.engine.session_engine import Wait
from lastseen.projections.live_view import Page

THREADS = 16
"""Calls that run at a time. The engine brings what they write to the log in common batches."""
MAX_WAITING = 20_000
"""Calls that may wait for a thread, or be in one."""
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _in_thread(
    method: Callable[Concatenate[Engine, _P], _R],
) -> Callable[Concatenate[AsyncEngine, _P], Coroutine[Any, Any, _R]]:
    """The method as a coroutine."""

    async def call(self: AsyncEngine, /, *args: _P.args, **options: _P.kwargs) -> _R:
        return await self._run(partial(method, self.engine, *args, **options))

    update_wrapper(call, method)
    return call


class AsyncEngine:
    """An `Engine` in an event loop: every method a coroutine, of the same name, arguments, results and errors.

    Sessions come back with their attributes, so that reading them never waits. Made by `open_async`, or around an
    engine that is there. As a context manager, or with `shutdown`, it shuts the engine down. It may be used in several
    loops, one after another or in threads of their own, and shut down in any of them.

    A caller that is cancelled does not hear what became of its call: what had begun goes on to its end, and the rest is
    not done. More than 20,000 calls at a time are refused with `LogUnavailable`.
    """

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        """`clock` is the engine's, if that is not the system's: holds are renewed by it."""
        self.engine = engine
        """The engine itself; its methods wait, so they are not for the event loop."""
        self._clock: Clock = SystemClock() if clock is None else clock
        self._touches: WeakKeyDictionary[asyncio.AbstractEventLoop, TouchBatch] = WeakKeyDictionary()
        """Touches are gathered in each loop for itself."""
        self._counting = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "lastseen-async")
        self._waiting = 0
        self._ending: asyncio.Task[None] | None = None

    open = _in_thread(Engine.open)
    create = _in_thread(Engine.create)
    rotate = _in_thread(Engine.rotate)
    update = _in_thread(Engine.update)
    touch_many = _in_thread(Engine.touch_many)
    suspend = _in_thread(Engine.suspend)
    resume = _in_thread(Engine.resume)
    take_lease = _in_thread(Engine.take_lease)
    release = _in_thread(Engine.release)
    close = _in_thread(Engine.close)
    close_many = _in_thread(Engine.close_many)
    suspend_many = _in_thread(Engine.suspend_many)
    resume_many = _in_thread(Engine.resume_many)

    async def touch(
        self,
        key: str,
        *,
        attributes: Mapping[str, Any] | None = None,
        message: Any = None,
        policy: Policy | None = None,
        session_id: str | None = None,
        if_version: int | None = None,
        wait: Wait = "applied",
        event_id: str | None = None,
    ) -> SessionView | None:
        """Activity: the idle clock restarts. As `Engine.touch`; plain touches that come together are one append."""
        is_plain = attributes is None and message is None and policy is None and if_version is None and event_id is None
        if is_plain and wait == "applied":
            return await self._touches_here().touch(key, session_id)
        return await self._run(
            lambda: self.engine.touch(
                key, attributes=attributes, message=message, policy=policy, session_id=session_id,
                if_version=if_version, wait=wait, event_id=event_id,
            )
        )  # fmt: skip

    def hold(
        self, key: str, *, holder: str | None = None, lease_ms: int = 60_000, session_id: str | None = None
    ) -> AsyncHold:
        """Keep a busy session from idling out or being evicted: use as `async with engine.hold(key): …`.

        The lease is renewed while the block runs, and lapses by itself, after at most `lease_ms`, if the process dies.
        """
        name = self.engine.hold(key, holder=holder, lease_ms=lease_ms, session_id=session_id).holder
        return AsyncHold(
            lambda: self.take_lease(key, name, lease_ms, session_id),
            lambda: self.release(key, name, session_id),
            self._clock,
            name,
            lease_ms,
        )

    get = _in_thread(Engine.get)
    get_by_id = _in_thread(Engine.get_by_id)
    list = _in_thread(Engine.list)
    count = _in_thread(Engine.count)
    messages = _in_thread(Engine.messages)
    history = _in_thread(Engine.history)
    session_spans = _in_thread(Engine.session_spans)
    ended_sessions = _in_thread(Engine.ended_sessions)
    explain = _in_thread(Engine.explain)
    as_of = _in_thread(Engine.as_of)
    messages_as_of = _in_thread(Engine.messages_as_of)
    statistics = _in_thread(Engine.statistics)
    checkpoints = _in_thread(Engine.checkpoints)
    health = _in_thread(Engine.health)
    owned = _in_thread(Engine.owned)
    owner_of = _in_thread(Engine.owner_of)
    held = _in_thread(Engine.held)

    def subscribe(self) -> AsyncSubscription:
        """Facts from now on, as they happen: an async iterator and an async context manager."""
        return AsyncSubscription(self.engine.subscribe())

    refresh = _in_thread(Engine.refresh)
    prune = _in_thread(Engine.prune)
    flush = _in_thread(Engine.flush)
    archive = _in_thread(Engine.archive)

    async def shutdown(self) -> None:
        """Let the touches that are here end, and shut the engine down. May be called again."""
        ending = self._ending
        if ending is None or (
            ending.get_loop() is not asyncio.get_running_loop() and not ending.get_loop().is_running()
        ):
            # A loop that has ended carries nothing to its end: what it has left of a shutdown is done here.
            ending = self._ending = asyncio.create_task(self._shut_down())
        await in_loop_of(ending)

    async def _shut_down(self) -> None:
        for loop, touches in list(self._touches.items()):
            if loop is asyncio.get_running_loop():
                await touches.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(touches.close(), loop))
            else:
                await asyncio.to_thread(touches.close_without_loop)
        await asyncio.to_thread(self.engine.shutdown)
        await asyncio.to_thread(self._threads.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()

    def _touches_here(self) -> TouchBatch:
        loop = asyncio.get_running_loop()
        touches = self._touches.get(loop)
        if touches is None:
            self._check_open()
            touches = self._touches[loop] = TouchBatch(self.engine)
        return touches

    def _check_open(self) -> None:
        if self._ending is not None:
            raise EngineClosed("the engine has shut down: open another with `open_async`")

    async def _run(self, call: Callable[[], _R]) -> _R:
        self._check_open()
        if self._waiting >= MAX_WAITING:
            raise LogUnavailable(
                f"{MAX_WAITING} calls wait for a thread, and that is the limit; nothing was done, try again in a moment"
            )
        self._count(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _whole, call)
        finally:
            self._count(-1)

    def _count(self, by: int) -> None:
        with self._counting:  # loops may run in several threads
            self._waiting += by


async def in_loop_of(task: asyncio.Task[_R]) -> _R:
    """The result of a task, in whichever loop it runs. A caller that is cancelled does not cancel it."""
    loop = task.get_loop()
    if loop is asyncio.get_running_loop():
        return await asyncio.shield(task)

    async def shielded() -> _R:
        return await asyncio.shield(task)

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(shielded(), loop))


def _whole(call: Callable[[], _R]) -> _R:
    """The result of a call, with the attributes of the sessions in it, as they would be fetched from the disk."""
    result = call()
    sessions = result.sessions if isinstance(result, Page) else result if isinstance(result, list) else [result]
    with suppress(LastseenError):  # the call stands; reading them raises why they cannot be read
        for session in sessions:
            if isinstance(session, SessionView):
                _ = session.attributes
    return result


async def open_async(
    url: str = "sqlite:///lastseen.db", *, clock: Clock | None = None, progress: Progress | None = None, **settings: Any
) -> AsyncEngine:
    """`open_engine` for an event loop: opens the log, reads it, and returns an `AsyncEngine`.

    Takes what `open_engine` takes, and raises what it raises. `progress` is called in another thread. To be used as
    `async with await lastseen.open_async(url) as engine: …`.
    """
    opener = ThreadPoolExecutor(1, "lastseen-open")
    try:
        opening = opener.submit(open_engine, url, clock=clock, progress=progress, **settings)
    finally:
        opener.shutdown(wait=False)
    try:
        engine = await asyncio.wrap_future(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_shut_down_unclaimed)
        raise
    return AsyncEngine(engine, clock)


def _shut_down_unclaimed(opening: Future[Engine]) -> None:
    """Shut down an engine whose opener was cancelled."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().shutdown()

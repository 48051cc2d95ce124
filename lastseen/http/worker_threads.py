"""What the routes of one application share: the engine, and how its blocking calls are kept out of the event loop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Container
from functools import partial
from time import perf_counter
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

from lastseen.aio.touch_batch import TouchBatch
from lastseen.api.problems import Problem
from lastseen.embedded.engine import Engine
from lastseen.engine.errors import InvalidSetting
from lastseen.engine.log.port import Position
from lastseen.engine.session import SessionView
from lastseen.http.guard.guarded_response import current_response
from lastseen.http.guard.overload import current_limit
from lastseen.http.idempotency import Idempotency
from lastseen.http.position_waits import PositionWaits
from lastseen.projections.as_of import check_wanted

P = ParamSpec("P")
T = TypeVar("T")

COMMAND_THREADS = 16
"""Commands and look-ups on disk in progress at a time; more wait for their turn."""
PAST_THREADS = 2
"""Reads of the past in progress at a time: they fold a key's records again, and commands are not to wait for them."""
PAST_WAITERS = 64
"""Reads of the past that may wait for their turn."""
REPLAY_THREADS = 2
"""Streams that read what they missed at a time, a turn each: commands do not wait for them."""
PAST_S = 10.0
"""How long such a read may take, its wait for a turn included."""
POSITION_WAIT_S = 2.0
"""How long a request with `min_position` waits for this instance to get there. It takes no thread while it waits, and
holds its place among the requests in progress, which are shared among tokens."""


class WorkerThreads:
    """One application's way to its engine. Made outside of an event loop; what needs one is made when it is used."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._limiter: anyio.CapacityLimiter | None = None
        self._past_limiter: anyio.CapacityLimiter | None = None
        self._replay_limiter: anyio.CapacityLimiter | None = None
        self._batch: TouchBatch | None = None
        self.idempotency = Idempotency(engine.log_identity)
        self._positions = PositionWaits(engine)
        self._stoppers: list[Callable[[], None]] = []
        self._closers: list[Callable[[], Awaitable[None] | None]] = []

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do blocking work in a thread. Work that has begun is completed, even if its caller is gone."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(COMMAND_THREADS)
        queued_s = began_s = perf_counter()

        def begin() -> T:
            nonlocal began_s
            began_s = perf_counter()
            return work(*args, **kwargs)

        try:
            return await anyio.to_thread.run_sync(begin, limiter=self._limiter)
        finally:
            if (limit := current_limit.get()) is not None:
                limit.threads.record(began_s - queued_s)

    async def read_past(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Read the past in a thread of those that are for this. Given up where its caller got a time-out, or after
        `PAST_S`. Raises `Problem` 503.
        """
        limiter = self._past_limiter = self._past_limiter or anyio.CapacityLimiter(PAST_THREADS)
        if limiter.statistics().tasks_waiting >= PAST_WAITERS:
            raise _past_unread("too many requests read the past at the moment")
        until_s, response = perf_counter() + PAST_S, current_response.get()

        def check() -> None:
            if perf_counter() > until_s or (response is not None and response.timed_out):
                raise _past_unread(f"reading the records of this key takes longer than {PAST_S:g} s")

        def begin() -> T:
            check()
            check_wanted.set(check)  # in the context of this call only
            return work(*args, **kwargs)

        return await anyio.to_thread.run_sync(begin, limiter=limiter)

    async def replay(self, turn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Take one turn of a stream that reads what it missed, in a thread of those that are for this."""
        limiter = self._replay_limiter = self._replay_limiter or anyio.CapacityLimiter(REPLAY_THREADS)
        return await anyio.to_thread.run_sync(partial(turn, *args, **kwargs), limiter=limiter)

    async def touch(self, key: str, session_id: str | None) -> SessionView:
        """A plain touch, together with all others of this turn of the loop."""
        if self._batch is None:
            self._batch = TouchBatch(self.engine)
        return await self._batch.touch(key, session_id)

    async def reach(self, positions: list[Position], partitions: Container[int]) -> None:
        """Wait until this instance shows what stands at those of the positions that are in `partitions`.

        Raises `Problem` 503 where that takes long, and `NotOwner` where the partition is another engine's.
        """
        try:
            missing = [each for each in positions if not self.engine.has_reached(each) and each.partition in partitions]
        except InvalidSetting as error:
            raise Problem(409, "another-log", f"min_position is of another log than this service's: {error}") from None
        if not missing:
            return
        give_up_s = perf_counter() + POSITION_WAIT_S
        for position in missing:
            if not await self._positions.reached(position, give_up_s - perf_counter()):
                raise Problem(
                    503,
                    "position-not-reached",
                    f"this instance has not folded min_position after {POSITION_WAIT_S:g} s; try again, or use the"
                    " instance that wrote it",
                    headers={"Retry-After": "1"},
                )

    def stop_streams(self) -> None:
        """End every stream. May be called from any thread, and before the server stops.

        A server that waits for open requests would otherwise wait for streams, which never end by themselves.
        """
        for stop in self._stoppers:
            stop()

    def at_stop(self, stopper: Callable[[], None]) -> None:
        """Call this when streams are to end; from any thread, and perhaps more than once."""
        self._stoppers.append(stopper)

    def at_close(self, closer: Callable[[], Awaitable[None] | None]) -> None:
        """Call this when the application ends, before the engine is shut down."""
        self._closers.append(closer)

    async def close(self) -> None:
        """End what runs on behalf of requests: streams, long work, batches. May be called again."""
        self.stop_streams()
        closers, self._closers = self._closers, []
        for closer in reversed(closers):
            ended = closer()
            if inspect.isawaitable(ended):
                await ended
        await self._positions.close()
        batch, self._batch = self._batch, None
        if batch is not None:
            await batch.close()


def _past_unread(why: str) -> Problem:
    return Problem(
        503,
        "too-slow",
        f"{why}: try again later, or read the key's history in pages",
        headers={"Retry-After": "1"},
    )

"""Requests that wait until this instance shows a position of the log: all of them together take one thread.

The engine follows the log by itself. That it has got to a position is seen in the event loop, for all who wait; the log
is asked in one thread, on behalf of all: for who comes new, and now and then, since a partition may fail meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import anyio.to_thread

from lastseen.embedded.engine import Engine
from lastseen.engine.errors import LastseenError
from lastseen.engine.log.port import Position

LOOK_EVERY_S = 0.01
"""How often it is looked at how far the engine is."""
ASK_EVERY_S = 0.25
"""How often the log is asked while no new request comes and nothing moves."""


class PositionWaits:
    """The requests of one application that wait for positions. For the thread of one event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[asyncio.Future[None], Position] = {}
        self._has_new = False
        self._watching: asyncio.Task[None] | None = None
        self._thread: anyio.CapacityLimiter | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def reached(self, position: Position, timeout_s: float) -> bool:
        """Wait until the engine shows the record at `position`; whether it does. Raises `LogError` and `NotOwner`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = position
        self._has_new = True
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            return False
        finally:
            del self._waiting[waiter]
        return True

    async def close(self) -> None:
        """Look no more. Those who wait get their time-out."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    async def _watch(self) -> None:
        """Look and ask for as long as requests wait."""
        loop = asyncio.get_running_loop()
        asked_s = 0.0
        while self._waiting:
            if self._has_new or loop.time() >= asked_s + ASK_EVERY_S:
                self._has_new = False
                await self._ask()
                asked_s = loop.time()
            self._has_new |= self._settle()
            await asyncio.sleep(LOOK_EVERY_S)

    def _settle(self) -> bool:
        """Let those go on whose position is reached; whether there were any."""
        reached = [
            waiter
            for waiter, position in self._waiting.items()
            if not waiter.done() and self._engine.has_reached(position)
        ]
        for waiter in reached:
            waiter.set_result(None)
        return bool(reached)

    async def _ask(self) -> None:
        """Fold up to the first position of each partition that a request waits for, if the log holds it."""
        soonest: dict[int, Position] = {}
        for waiter, position in self._waiting.items():
            if not waiter.done():
                soonest[position.partition] = min(position, soonest.get(position.partition, position))
        self._thread = self._thread or anyio.CapacityLimiter(1)
        for position in soonest.values():
            try:
                await anyio.to_thread.run_sync(self._engine.wait_for, position, 0.0, limiter=self._thread)
            except LastseenError as error:
                for waiter, other in self._waiting.items():
                    if other.partition == position.partition and not waiter.done():
                        waiter.set_exception(error)

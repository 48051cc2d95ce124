"""A subscription for asyncio: facts as they happen, brought into the event loop by a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from lastseen.engine.errors import LastseenError
from lastseen.projections.facts import Fact
from lastseen.projections.subscriptions import Subscription

AHEAD = 1_000
"""Facts brought into the loop ahead of `__anext__`; the others wait in the subscription."""


class AsyncSubscription(AsyncIterator[Fact]):
    """Facts from now on. Iterate over it; `close` it, or use it as a context manager, when you need no more.

    Ends when the engine shuts down. Raises `LastseenError` if the listener fell so far behind that facts were dropped.
    A call of `__anext__` that is cancelled loses nothing: the next one gets the fact.
    """

    def __init__(self, subscription: Subscription) -> None:
        """Made by `AsyncEngine.subscribe`, in the event loop."""
        self._arrived: asyncio.Queue[Fact | LastseenError | None] = asyncio.Queue()
        self._room = threading.Semaphore(AHEAD)
        self._is_over = False
        is_closed = threading.Event()
        # One that is collected without being closed ends as well: the thread references the subscription, and not this.
        self._detach = weakref.finalize(self, _detach, subscription, self._room, is_closed)
        threading.Thread(
            target=_bring,
            args=(subscription, self._arrived, self._room, is_closed, asyncio.get_running_loop()),
            name="lastseen-subscription",
            daemon=True,
        ).start()

    async def __anext__(self) -> Fact:
        if self._is_over:
            raise StopAsyncIteration
        fact = await self._arrived.get()
        self._room.release()
        if isinstance(fact, Fact):
            return fact
        self._is_over = True
        if fact is None:
            raise StopAsyncIteration
        raise fact

    async def close(self) -> None:
        """Stop listening."""
        self._is_over = True
        self._detach()
        self._arrived.put_nowait(None)  # wakes a task that waits in `__anext__`

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _detach(subscription: Subscription, room: threading.Semaphore, is_closed: threading.Event) -> None:
    is_closed.set()
    subscription.close()
    room.release()


def _bring(
    subscription: Subscription,
    arrived: asyncio.Queue[Fact | LastseenError | None],
    room: threading.Semaphore,
    is_closed: threading.Event,
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Bring facts into the loop, as long as there is room, until there are no more."""
    with suppress(RuntimeError):  # the loop is closed
        item: Fact | LastseenError | None = None
        while True:
            try:
                item = subscription.get()
            except LastseenError as error:
                item = error
            room.acquire()
            if is_closed.is_set():
                return
            loop.call_soon_threadsafe(arrived.put_nowait, item)
            if not isinstance(item, Fact):
                return

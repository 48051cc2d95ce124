"""A hold for asyncio: a lease on a session that a task renews while a block of code runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from lastseen.engine.clock import Clock
from lastseen.engine.errors import LastseenError, Refused
from lastseen.engine.session import SessionView

_logger = logging.getLogger("lastseen")
LOOK_EVERY_S = 1.0
"""How often the clock is looked at: it may be set, and a machine may sleep."""
_unfinished: set[asyncio.Future[Any]] = set()


class AsyncHold:
    """Keeps a session held while its block runs; the twin of `engine.hold.Hold`.

    A task renews the lease when a third of it is over. If a renewal is refused, because the session ended say, the
    block continues, and `lost` holds the reason. A task that is cancelled while it takes the lease holds nothing.
    """

    def __init__(
        self,
        take: Callable[[], Coroutine[Any, Any, SessionView]],
        release: Callable[[], Awaitable[object]],
        clock: Clock,
        holder: str,
        lease_ms: int,
    ) -> None:
        self._take = take
        self._release = release
        self._clock = clock
        self._lease_ms = lease_ms
        self._done = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self.holder = holder
        self.session: SessionView | None = None
        """The session as it was when the lease was last taken."""
        self.lost: LastseenError | None = None
        """Why the lease could not be renewed, if so."""

    async def __aenter__(self) -> Self:
        taking = asyncio.create_task(self._take())
        try:
            self.session = await asyncio.shield(taking)
        except asyncio.CancelledError:
            _finish(self._give_back(taking))
            raise
        self._renewing = asyncio.create_task(self._renew(self._clock.now_ms()))
        return self

    async def _give_back(self, taking: asyncio.Task[SessionView]) -> None:
        with suppress(LastseenError):
            await taking
            await self._release()

    async def _renew(self, taken_ms: int) -> None:
        while True:
            wake_ms = taken_ms + max(self._lease_ms // 3, 1)
            while (left_ms := wake_ms - self._clock.now_ms()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._done.wait(), min(left_ms / 1000, LOOK_EVERY_S))
                if self._done.is_set():
                    return
            try:
                self.session = await self._take()
            except LastseenError as error:
                self.lost = error
                _logger.warning("hold %s was not renewed: %s", self.holder, error)
                return
            taken_ms = self._clock.now_ms()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        await asyncio.shield(_finish(self._end()))

    async def _end(self) -> None:
        # A renewal in progress would take the lease again after the release.
        if self._renewing is not None:
            await self._renewing
        # Where the lease has lapsed, or the session has ended, there is nothing to give up.
        with suppress(Refused):
            await self._release()


def _finish(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that runs to its end even if its waiter is cancelled."""
    task = asyncio.create_task(work)
    _unfinished.add(task)
    task.add_done_callback(_unfinished.discard)
    return task

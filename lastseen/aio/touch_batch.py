"""Concurrent touches of an event loop, gathered: all that come in one turn of the loop are one append.

A touch in a thread of its own costs several times the touch. Here the touches of a turn wait until its end, and go to
one worker thread together; those that come while it is at work are the next batch. So a touch that is alone does not
wait for others, and a thousand at once are one `touch_many`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from lastseen.embedded.engine import Engine
from lastseen.engine.errors import (
    ClockSkew,
    EngineClosed,
    LastseenError,
    LogUnavailable,
    OutcomeUnknown,
    Refused,
    shown,
)
from lastseen.engine.session import SessionView

MAX_WAITING = 20_000
"""Touches that may wait or be in flight at a time."""
BATCH = 2_000
"""Touches in one append: more would keep those who come first waiting for the last."""

_Result = SessionView | BaseException
_Wanted = tuple[str, str | None]
"""A key, and the id of the session that is meant, if it comes with one."""
_Waiter = tuple[_Wanted, "asyncio.Future[SessionView]"]


class TouchBatch:
    """Plain touches for the coroutines of one event loop. The engine's own rules and errors; many at the price of few.

    To be used in one loop, and closed before the engine is shut down.
    """

    def __init__(self, engine: Engine, *, max_waiting: int = MAX_WAITING) -> None:
        """`max_waiting` touches may be in here at a time; more are refused with `LogUnavailable`."""
        self._engine = engine
        self._max_waiting = max_waiting
        self._waiting: deque[_Waiter] = deque()
        self._in_flight = 0
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: asyncio.Future[None] | None = None
        """Set while `close` waits for the last batch."""
        self._is_busy = False
        """Whether the worker has a batch, or is about to get one."""
        self._worker = ThreadPoolExecutor(1, "lastseen-touches")

    @property
    def waiting(self) -> int:
        """Touches that wait or are in flight."""
        return len(self._waiting) + self._in_flight

    async def touch(self, key: str, session_id: str | None = None) -> SessionView:
        """Activity under `key`; returns the session as it is after it, with its attributes.

        `session_id` pins it to that very session. Raises what `Engine.touch` raises, `LogUnavailable` where too many
        touches wait. A caller that is cancelled before its batch is sent has touched nothing; later, it has.
        """
        if self._is_closed:
            raise EngineClosed("the engine is shutting down and accepts no more touches: open another")
        if len(self._waiting) + self._in_flight >= self._max_waiting:
            raise LogUnavailable(
                f"session key {shown(key)}: {self._max_waiting} touches wait for the log, and that is the limit;"
                " nothing was written, try again in a moment"
            )
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        waiter: asyncio.Future[SessionView] = loop.create_future()
        self._waiting.append(((key, session_id), waiter))
        if not self._is_busy:
            self._is_busy = True
            loop.call_soon(self._send)
        return await waiter

    async def close(self) -> None:
        """Take no more touches, and wait for those that are here. May be called again."""
        self._is_closed = True
        while self.waiting or self._is_busy:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
        self._worker.shutdown()

    def close_without_loop(self) -> None:
        """The same where the loop has ended: none of its coroutines waits for an answer now. Waits for the worker."""
        self._is_closed = True
        self._worker.shutdown()

    # ── in the loop ──

    def _send(self) -> None:
        """At the end of a turn: hand the worker what waits."""
        wanted: list[_Waiter] = []
        while self._waiting and len(wanted) < BATCH:
            waiter = self._waiting.popleft()
            if not waiter[1].done():  # a caller that was cancelled meanwhile wants nothing written
                wanted.append(waiter)
        if not wanted:
            self._is_busy = False
            self._signal_if_idle()
            return
        self._in_flight += len(wanted)
        self._worker.submit(self._run, wanted)

    def _settle(self, batch: Sequence[_Waiter], results: Sequence[_Result]) -> None:
        """Each caller gets its own result, whatever became of the others."""
        for (_, waiter), result in zip(batch, results, strict=True):
            if waiter.done():
                continue
            if isinstance(result, BaseException):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)
        if self._waiting:
            assert self._loop is not None
            self._loop.call_soon(self._send)
        else:
            self._is_busy = False
        self._arrived(len(batch))

    def _arrived(self, count: int) -> None:
        self._in_flight -= count
        self._signal_if_idle()

    def _signal_if_idle(self) -> None:
        if self._idle is not None and not self.waiting and not self._is_busy:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None

    # ── in the worker ──

    def _run(self, batch: Sequence[_Waiter]) -> None:
        results = self._touch_all([wanted for wanted, _ in batch])
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: there is no waiter left
            self._loop.call_soon_threadsafe(self._settle, batch, results)

    def _touch_all(self, wanted: list[_Wanted]) -> list[_Result]:
        try:
            answers = self._engine.touch_many(wanted)
        except LastseenError as error:
            # A new one for each caller: they raise it in coroutines of their own.
            return [error.again() for _ in wanted]
        except BaseException as error:
            return [_unknown(error) for _ in wanted]
        return [self._whole(*each, answer) for each, answer in zip(wanted, answers, strict=True)]

    def _whole(self, key: str, session_id: str | None, answer: SessionView | LastseenError | None) -> _Result:
        if isinstance(answer, Refused) and not isinstance(answer, ClockSkew) and session_id is None:
            # Where the session changed hands between decision and fold, `touch` decides again; `touch_many` does not.
            return self._touch_one(key)
        if isinstance(answer, LastseenError):
            return answer
        assert answer is not None, "a touch that is waited for has a session or an error"
        _fetch(answer)
        return answer

    def _touch_one(self, key: str) -> _Result:
        try:
            session = self._engine.touch(key)
        except LastseenError as error:
            return error
        except BaseException as error:
            return _unknown(error)
        assert session is not None, "a touch that is waited for returns its session"
        _fetch(session)
        return session


def _fetch(session: SessionView) -> None:
    """Bring the attributes into memory here, so that reading them does not block the event loop."""
    with suppress(LastseenError):  # the touch stands; reading them raises why they cannot be read
        _ = session.attributes


def _unknown(error: BaseException) -> OutcomeUnknown:
    unknown = OutcomeUnknown(f"the touch was interrupted ({error!r}), and may or may not be in the log")
    unknown.__cause__ = error
    return unknown

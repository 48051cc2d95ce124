"""`lastseen.AsyncClient`: the engine's methods over HTTP, as coroutines. The twin of `lastseen.Client`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import httpx

from lastseen.aio.hold import AsyncHold
from lastseen.client import commands as calls
from lastseen.client.call import Call, Lost, Reply
from lastseen.client.client import CONNECTIONS, PAGE, TIMEOUT_S
from lastseen.client.event_stream import PATIENCE_S, Course, is_stream
from lastseen.client.remote_session import RemoteSession
from lastseen.client.retries import Conversation, Pause, Send
from lastseen.client.transport import (
    MAX_ANSWER_BYTES,
    Remote,
    holder_of,
    line_of,
    lost_by,
    no_room,
    pool_options,
    reply_of,
    request_options,
    takes_from,
    too_large,
)
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import EngineClosed
from lastseen.engine.session import SessionView, Status
from lastseen.projections.facts import Fact
from lastseen.projections.live_view import Sort

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _doing(make: Callable[_P, Call[_R]]) -> Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _R]]:
    """The coroutine that makes a call and carries it out."""

    async def do(self: AsyncClient, /, *args: _P.args, **options: _P.kwargs) -> _R:
        return await self._do(make(*args, **options))

    takes_from(do, make)
    return do


class AsyncClient(Remote):
    """A service of lastseen, reached over HTTP from an event loop. All is as in `Client`, its methods are coroutines.

    A call that is cancelled may have been carried out. To be used in one loop; as an async context manager, or with
    `shutdown`.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        connections: int = CONNECTIONS,
        reads_own_writes: bool = True,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As for `Client`. Raises `InvalidSetting`."""
        super().__init__(line_of(address, token, timeout, reads_own_writes))
        self._connections = connections
        self._http = httpx.AsyncClient(transport=transport, **pool_options(connections, verify))
        self._turns = asyncio.Semaphore(connections)

    open = _doing(calls.open)
    create = _doing(calls.create)
    rotate = _doing(calls.rotate)
    touch = _doing(calls.touch)
    update = _doing(calls.update)
    touch_many = _doing(calls.touch_many)
    suspend = _doing(calls.suspend)
    resume = _doing(calls.resume)
    take_lease = _doing(calls.take_lease)
    release = _doing(calls.release)
    close = _doing(calls.close)

    def hold(
        self, key: str, *, holder: str | None = None, lease_ms: int = 60_000, session_id: str | None = None
    ) -> AsyncHold:
        """Keep a busy session from idling out or being evicted: use as `async with client.hold(key): …`.

        The lease is renewed while the block runs, and lapses by itself, after at most `lease_ms`, if the process dies.
        """
        name = holder_of(holder)

        async def take() -> SessionView:
            # A hold only shows its session, and a remote one shows the same.
            return cast(SessionView, await self.take_lease(key, name, lease_ms, session_id))

        return AsyncHold(take, lambda: self.release(key, name, session_id), SystemClock(), name, lease_ms)

    get = _doing(calls.get)
    messages = _doing(calls.messages)
    messages_as_of = _doing(calls.messages_as_of)
    history = _doing(calls.history)
    lives = _doing(calls.lives)
    explain = _doing(calls.explain)
    as_of = _doing(calls.as_of)
    statistics = _doing(calls.statistics)
    list = _doing(calls.list)
    prune = _doing(calls.prune)

    async def sessions(
        self, *, sort: Sort = "lru", status: Status | str | None = None, prefix: str = "", owner: str | None = None
    ) -> AsyncIterator[RemoteSession]:
        """All live sessions, fetched page by page while you iterate; what changes meanwhile may be seen or not."""
        cursor: str | None = None
        while True:
            page = await self.list(sort=sort, status=status, prefix=prefix, owner=owner, limit=PAGE, cursor=cursor)
            for session in page.sessions:
                yield session
            cursor = page.cursor
            if cursor is None:
                return

    def events(
        self, last_event_id: str | None = None, *, prefix: str = "", kinds: tuple[str, ...] = (),
        patience_s: float = PATIENCE_S,
    ) -> AsyncEventStream:  # fmt: skip
        """Facts as they happen: an async iterator that connects again by itself, without a gap or a repeat.

        From now on, or behind the fact that had `last_event_id`; `"0"` is the beginning of the log. Raises
        `LogUnavailable` after `patience_s` without a connection.
        """
        return AsyncEventStream(self, self._course(last_event_id, prefix, kinds, patience_s))

    async def shutdown(self) -> None:
        """Close the connections. May be called again."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def _do(self, call: Call[_R]) -> _R:
        if self._http.is_closed:
            raise EngineClosed("this client has been shut down: make another")
        conversation = Conversation(call, self._line)
        while (step := conversation.step) is not None:
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                conversation.go_on(None)
            else:
                conversation.go_on(await self._send(step))
        return conversation.result

    async def _send(self, send: Send) -> Reply | Lost:
        has_turn = False
        try:
            async with asyncio.timeout(send.timeout_s), self._turns:
                has_turn = True
                request = self._http.build_request(**request_options(send, send.timeout_s))
                response = await self._http.send(request, stream=True)
                try:
                    content = bytearray()
                    async for chunk in response.aiter_bytes():
                        content += chunk
                        if len(content) > MAX_ANSWER_BYTES:
                            raise too_large()
                finally:
                    await response.aclose()
        except (httpx.HTTPError, TimeoutError) as error:
            return lost_by(error) if has_turn else no_room(self._connections, send.timeout_s)
        return reply_of(response, bytes(content))


class AsyncEventStream(AsyncIterator[Fact]):
    """Facts of a service. Iterate over it; `close` it, or use it as a context manager, when you have heard enough."""

    def __init__(self, client: AsyncClient, course: Course) -> None:
        self._client = client
        self._course = course
        self._facts = self._listen()

    @property
    def last_event_id(self) -> str | None:
        """The id of the fact that was told last: give it to `events` to go on behind that."""
        return self._course.reader.last_event_id

    async def __anext__(self) -> Fact:
        try:
            return await anext(self._facts)
        except asyncio.CancelledError:
            # That ended the connection. The next call opens another, behind what was told: nothing is missed.
            self._course.reader.broke_off()
            self._facts = self._listen()
            raise

    async def close(self) -> None:
        """Stop listening."""
        await self._facts.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _listen(self) -> Any:
        course, client = self._course, self._client
        while True:
            try:
                async with client._http.stream(**client._stream_options(course)) as response:
                    if is_stream(response.status_code, response.headers):
                        async for chunk in response.aiter_bytes():
                            course.connected()
                            for fact in course.reader.feed(chunk):
                                yield fact
                        wait_s = course.lost("the service ended it")
                    else:
                        wait_s = course.refused(reply_of(response, await response.aread()))
            except httpx.HTTPError as error:
                wait_s = course.lost(lost_by(error).why)
            await asyncio.sleep(wait_s)

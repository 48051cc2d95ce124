"""`lastseen.AsyncClient`: the engine's methods over HTTP, as coroutines. The twin of `lastseen.Client`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import httpx

from lastseen.aio.hold import AsyncHold
from lastseen.api.responses import Session
from lastseen.client import bulk_commands as bulk_calls
from lastseen.client import commands as calls
from lastseen.client import reads
from lastseen.client.call import Call, NoResponse, Response
from lastseen.client.client import CONNECTIONS, PAGE, TIMEOUT_S
from lastseen.client.connection import CONNECT_TIMEOUT_S, TRY_TIMEOUT_S
from lastseen.client.event_stream import PATIENCE_S, StreamPosition, is_stream
from lastseen.client.retries import Attempt, Pause, Send
from lastseen.client.stream_tickets import stream_ticket
from lastseen.client.transport import (
    MAX_RESPONSE_BYTES,
    ServiceClient,
    connection_of,
    copy_signature,
    holder_name,
    no_free_connection,
    no_response_from,
    pool_options,
    request_options,
    response_of,
    response_too_large,
)
from lastseen.engine.arguments import ANY, Anything
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import EngineClosed
from lastseen.engine.session import SessionView, Status
from lastseen.projections.facts import Fact
from lastseen.projections.listing import Sort

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _method_for(make: Callable[_P, Call[_R]]) -> Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _R]]:
    """The coroutine that makes a call and carries it out."""

    async def do(self: AsyncClient, /, *args: _P.args, **options: _P.kwargs) -> _R:
        return await self._execute(make(*args, **options))

    copy_signature(do, make)
    return do


class AsyncClient(ServiceClient):
    """A service of lastseen, reached over HTTP from an event loop. All is as in `Client`, its methods are coroutines.

    A call that is cancelled may have been carried out. To be used in one loop; as an async context manager, or with
    `shutdown`.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        token: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        try_timeout: float = TRY_TIMEOUT_S,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        owner_hosts: Sequence[str] = (),
        connections: int = CONNECTIONS,
        reads_own_writes: bool = True,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As for `Client`. Raises `InvalidSetting`."""
        super().__init__(
            connection_of(address, token, timeout, reads_own_writes, try_timeout, connect_timeout, owner_hosts)
        )
        self._connections = connections
        self._http = httpx.AsyncClient(transport=transport, **pool_options(connections, verify))
        self._slots = asyncio.Semaphore(connections)

    open = _method_for(calls.open)
    create = _method_for(calls.create)
    rotate = _method_for(calls.rotate)
    touch = _method_for(calls.touch)
    update = _method_for(calls.update)
    touch_many = _method_for(calls.touch_many)
    suspend = _method_for(calls.suspend)
    resume = _method_for(calls.resume)
    take_lease = _method_for(calls.take_lease)
    release = _method_for(calls.release)
    close = _method_for(calls.close)
    close_many = _method_for(bulk_calls.close_many)
    suspend_many = _method_for(bulk_calls.suspend_many)
    resume_many = _method_for(bulk_calls.resume_many)
    close_where = _method_for(bulk_calls.close_where)
    suspend_where = _method_for(bulk_calls.suspend_where)
    resume_where = _method_for(bulk_calls.resume_where)

    def hold(
        self, key: str, *, holder: str | None = None, lease_ms: int = 60_000, session_id: str | None = None
    ) -> AsyncHold:
        """Keep a busy session from idling out or being evicted: use as `async with client.hold(key): …`.

        The lease is renewed while the block runs, and lapses by itself, after at most `lease_ms`, if the process dies.
        """
        name = holder_name(holder)

        async def take() -> SessionView:
            # A hold only shows its session, and a remote one shows the same.
            return cast(SessionView, await self.take_lease(key, name, lease_ms, session_id))

        return AsyncHold(take, lambda: self.release(key, name, session_id), SystemClock(), name, lease_ms)

    get = _method_for(reads.get)
    messages = _method_for(reads.messages)
    messages_as_of = _method_for(reads.messages_as_of)
    history = _method_for(reads.history)
    session_spans = _method_for(reads.session_spans)
    ended_sessions = _method_for(reads.ended_sessions)
    explain = _method_for(reads.explain)
    as_of = _method_for(reads.as_of)
    statistics = _method_for(reads.statistics)
    stream_ticket = _method_for(stream_ticket)
    list = _method_for(reads.list)
    prune = _method_for(calls.prune)

    async def sessions(
        self,
        *,
        sort: Sort = "lru",
        status: Status | str | Anything = ANY,
        prefix: str | Anything = ANY,
        owner: str | Anything = ANY,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> AsyncIterator[Session]:
        """All live sessions, fetched page by page while you iterate; what changes meanwhile may be seen or not."""
        cursor: str | None = None
        while True:
            page = await self.list(
                sort=sort, status=status, prefix=prefix, owner=owner, since_ms=since_ms, until_ms=until_ms, limit=PAGE,
                cursor=cursor,
            )  # fmt: skip
            for session in page.sessions:
                yield session
            cursor = page.cursor
            if cursor is None:
                return

    def events(
        self, last_event_id: str | None = None, *, prefix: str | Anything = ANY,
        kinds: tuple[str, ...] | Anything = ANY, patience_s: float = PATIENCE_S,
    ) -> AsyncEventStream:  # fmt: skip
        """Facts as they happen: an async iterator that reconnects by itself, without gaps or duplicates.

        From now on, or after the fact with the id `last_event_id`; `"0"` is the beginning of the log. Of
        all keys and kinds, unless `prefix` and `kinds` are given. Raises `LogUnavailable` after `patience_s` without a
        connection, and `InvalidSetting` for a filter that is empty or `None`.
        """
        return AsyncEventStream(self, self._stream_position(last_event_id, prefix, kinds, patience_s))

    async def shutdown(self) -> None:
        """Close the connections. May be called again."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def _execute(self, call: Call[_R]) -> _R:
        if self._http.is_closed:
            raise EngineClosed("this client has been shut down: make a new one")
        attempt = Attempt(call, self._connection)
        while (step := attempt.step) is not None:
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                attempt.proceed(None)
            else:
                attempt.proceed(await self._send(step))
        return attempt.result

    async def _send(self, send: Send) -> Response | NoResponse:
        has_slot = False
        try:
            async with asyncio.timeout(send.timeout_s), self._slots:
                has_slot = True
                request = self._http.build_request(**request_options(send, send.timeout_s))
                response = await self._http.send(request, stream=True)
                try:
                    content = bytearray()
                    async for chunk in response.aiter_bytes():
                        content += chunk
                        if len(content) > MAX_RESPONSE_BYTES:
                            raise response_too_large()
                finally:
                    await response.aclose()
        except (httpx.HTTPError, TimeoutError) as error:
            return no_response_from(error) if has_slot else no_free_connection(self._connections, send.timeout_s)
        return response_of(response, bytes(content))


class AsyncEventStream(AsyncIterator[Fact]):
    """Facts of a service. Iterate over it; `close` it, or use it as a context manager, when you are done."""

    def __init__(self, client: AsyncClient, position: StreamPosition) -> None:
        self._client = client
        self._position = position
        self._facts = self._listen()

    @property
    def last_event_id(self) -> str | None:
        """The id of the last fact: give it to `events` to continue after it."""
        return self._position.reader.last_event_id

    async def __anext__(self) -> Fact:
        try:
            return await anext(self._facts)
        except asyncio.CancelledError:
            # The cancellation closed the connection. The next call opens another: nothing is missed.
            self._position.reader.connection_lost()
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
        position, client = self._position, self._client
        while True:
            try:
                async with client._http.stream(**client._stream_options(position)) as response:
                    if is_stream(response.status_code, response.headers):
                        async for chunk in response.aiter_bytes():
                            position.connected()
                            for fact in position.reader.feed(chunk):
                                yield fact
                        wait_s = position.disconnected("the service ended it")
                    else:
                        wait_s = position.refused(response_of(response, await response.aread()))
            except httpx.HTTPError as error:
                wait_s = position.disconnected(no_response_from(error).why)
            await asyncio.sleep(wait_s)

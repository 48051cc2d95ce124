"""`lastseen.Client`: the engine's methods over HTTP, for programs that wait for their answers."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar, cast

import httpx

from lastseen.api.responses import Session
from lastseen.client import bulk_commands as bulk_calls
from lastseen.client import commands as calls
from lastseen.client import reads
from lastseen.client.call import Call, NoResponse, Response
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
from lastseen.engine.hold import Hold
from lastseen.engine.lease_renewer import LeaseRenewer
from lastseen.engine.session import SessionView, Status
from lastseen.projections.facts import Fact
from lastseen.projections.listing import Sort

TIMEOUT_S = 10.0
CONNECTIONS = 10
PAGE = 500
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _method_for(make: Callable[_P, Call[_R]]) -> Callable[Concatenate[Client, _P], _R]:
    """The method that makes a call and carries it out."""

    def do(self: Client, /, *args: _P.args, **options: _P.kwargs) -> _R:
        return self._execute(make(*args, **options))

    copy_signature(do, make)
    return do


class Client(ServiceClient):
    """A service of lastseen, reached over HTTP: the engine's method names, results and errors.

    Sessions are `Session`s, which show what an engine's do. A call is over after `timeout` seconds, all tries
    included: what is safe to repeat is tried again (see `lastseen.client.call`), at other instances and after pauses,
    as long as the time allows, and what may or may not have been done raises `OutcomeUnknown`. Where another instance
    owns the session, it is asked, and remembered (see `lastseen.client.routes`). What this client reads reflects what
    it has written, whichever instance answers.

    Safe to call from many threads. Use it as a context manager, or call `shutdown` when you are done.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`address` is the service's, such as `http://127.0.0.1:8321`, or several instances', as a sequence or with
        commas between them. The first that answers is asked. Nothing is sent before the first call.

        Times are in seconds. `timeout` is a call's, all tries included; `connect_timeout` is that of each connection;
        `try_timeout` is how long one instance has to respond to a call about a key that may be sent again: then another
        is asked, or the same again with twice the time. `owner_hosts` names hosts, beside those of `address`, to which
        a service may refer this client and its token: `two.example`, `*.sessions.svc`, `10.1.0.0/16`, or `*`.

        `connections` calls are in progress at most, and others wait; streams come on top. `verify` is for certificates
        of one's own, `transport` for tests. Proxies and passwords of the environment are not used. Raises
        `InvalidSetting`."""
        super().__init__(
            connection_of(address, token, timeout, reads_own_writes, try_timeout, connect_timeout, owner_hosts)
        )
        self._connections = connections
        self._http = httpx.Client(transport=transport, **pool_options(connections, verify))
        self._slots = threading.BoundedSemaphore(connections)
        self._renewer = LeaseRenewer(SystemClock())

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
    ) -> Hold:
        """Keep a busy session from idling out or being evicted: use as `with client.hold(key): …`.

        The lease is renewed while the block runs, and lapses by itself, after at most `lease_ms`, if the process dies.
        """
        name = holder_name(holder)
        return Hold(
            # A hold only shows its session, and a remote one shows the same.
            lambda: cast(SessionView, self.take_lease(key, name, lease_ms, session_id)),
            lambda: self.release(key, name, session_id),
            self._renewer,
            name,
            lease_ms,
        )

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

    def sessions(
        self,
        *,
        sort: Sort = "lru",
        status: Status | str | Anything = ANY,
        prefix: str | Anything = ANY,
        owner: str | Anything = ANY,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> Iterator[Session]:
        """All live sessions, fetched page by page while you iterate; what changes meanwhile may be seen or not."""
        cursor: str | None = None
        while True:
            page = self.list(
                sort=sort, status=status, prefix=prefix, owner=owner, since_ms=since_ms, until_ms=until_ms, limit=PAGE,
                cursor=cursor,
            )  # fmt: skip
            yield from page.sessions
            cursor = page.cursor
            if cursor is None:
                return

    def events(
        self, last_event_id: str | None = None, *, prefix: str | Anything = ANY,
        kinds: tuple[str, ...] | Anything = ANY, patience_s: float = PATIENCE_S,
    ) -> EventStream:  # fmt: skip
        """Facts as they happen: an iterator that reconnects by itself, without gaps or duplicates.

        From now on, or after the fact with the id `last_event_id`; `"0"` is the beginning of the log. Of
        all keys and kinds, unless `prefix` and `kinds` are given. Raises `LogUnavailable` after `patience_s` without a
        connection, and `InvalidSetting` for a filter that is empty or `None`.
        """
        return EventStream(self, self._stream_position(last_event_id, prefix, kinds, patience_s))

    def shutdown(self) -> None:
        """Close the connections. May be called again."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    def _execute(self, call: Call[_R]) -> _R:
        if self._http.is_closed:
            raise EngineClosed("this client has been shut down: make a new one")
        attempt = Attempt(call, self._connection)
        while (step := attempt.step) is not None:
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                attempt.proceed(None)
            else:
                attempt.proceed(self._send(step))
        return attempt.result

    def _send(self, send: Send) -> Response | NoResponse:
        until_s = time.monotonic() + send.timeout_s
        if not self._slots.acquire(timeout=send.timeout_s):
            return no_free_connection(self._connections, send.timeout_s)
        try:
            left_s = max(until_s - time.monotonic(), 0.001)
            response = self._http.send(self._http.build_request(**request_options(send, left_s)), stream=True)
            try:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > until_s:
                        raise TimeoutError(f"the response was incomplete after {send.timeout_s:g} s")
                    if len(content) > MAX_RESPONSE_BYTES:
                        raise response_too_large()
            finally:
                response.close()
        except (httpx.HTTPError, TimeoutError) as error:
            return no_response_from(error)
        finally:
            self._slots.release()
        return response_of(response, bytes(content))


class EventStream(Iterator[Fact]):
    """Facts of a service. Iterate over it; `close` it, or use it as a context manager, when you are done."""

    def __init__(self, client: Client, position: StreamPosition) -> None:
        self._client = client
        self._position = position
        self._facts = self._listen()

    @property
    def last_event_id(self) -> str | None:
        """The id of the last fact: give it to `events` to continue after it."""
        return self._position.reader.last_event_id

    def __next__(self) -> Fact:
        return next(self._facts)

    def close(self) -> None:
        """Stop listening."""
        self._facts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> Generator[Fact, None, None]:
        position, client = self._position, self._client
        while True:
            try:
                with client._http.stream(**client._stream_options(position)) as response:
                    if is_stream(response.status_code, response.headers):
                        for chunk in response.iter_bytes():
                            position.connected()
                            yield from position.reader.feed(chunk)
                        wait_s = position.disconnected("the service ended it")
                    else:
                        wait_s = position.refused(response_of(response, response.read()))
            except httpx.HTTPError as error:
                wait_s = position.disconnected(no_response_from(error).why)
            time.sleep(wait_s)

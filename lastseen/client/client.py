"""`lastseen.Client`: the engine's methods over HTTP, for programs that wait for their answers."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar, cast

import httpx

from lastseen.client import commands as calls
from lastseen.client.call import Call, Lost, Reply
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
from lastseen.engine.hold import Hold
from lastseen.engine.session import SessionView, Status
from lastseen.projections.facts import Fact
from lastseen.projections.live_view import Sort

TIMEOUT_S = 10.0
CONNECTIONS = 10
PAGE = 500
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _doing(make: Callable[_P, Call[_R]]) -> Callable[Concatenate[Client, _P], _R]:
    """The method that makes a call and carries it out."""

    def do(self: Client, /, *args: _P.args, **options: _P.kwargs) -> _R:
        return self._do(make(*args, **options))

    takes_from(do, make)
    return do


class Client(Remote):
    """A service of lastseen, reached over HTTP: the engine's method names, results and errors.

    Sessions are `RemoteSession`s, which show what an engine's do. A call is over after `timeout` seconds, all tries
    included: what is safe to repeat is tried again after pauses (see `lastseen.client_call`), and what may or may not
    have been done raises `OutcomeUnknown`. Where another instance has the session, its address is followed. What this
    client reads reflects what it has written, whichever instance answers.

    Safe to call from many threads. Use it as a context manager, or call `shutdown` when you are done.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`address` is the service's, such as `http://127.0.0.1:8321`; nothing is sent before the first call.

        `connections` calls are under way at most, and others wait; streams come on top. `verify` is for certificates of
        one's own, `transport` for tests. Proxies and passwords of the environment are not used. Raises
        `InvalidSetting`.
        """
        super().__init__(line_of(address, token, timeout, reads_own_writes))
        self._connections = connections
        self._http = httpx.Client(transport=transport, **pool_options(connections, verify))
        self._turns = threading.BoundedSemaphore(connections)

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
    ) -> Hold:
        """Keep a busy session from idling out or being evicted: use as `with client.hold(key): …`.

        The lease is renewed while the block runs, and lapses by itself, after at most `lease_ms`, if the process dies.
        """
        name = holder_of(holder)
        return Hold(
            # A hold only shows its session, and a remote one shows the same.
            lambda: cast(SessionView, self.take_lease(key, name, lease_ms, session_id)),
            lambda: self.release(key, name, session_id),
            SystemClock(),
            name,
            lease_ms,
        )

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

    def sessions(
        self, *, sort: Sort = "lru", status: Status | str | None = None, prefix: str = "", owner: str | None = None
    ) -> Iterator[RemoteSession]:
        """All live sessions, fetched page by page while you iterate; what changes meanwhile may be seen or not."""
        cursor: str | None = None
        while True:
            page = self.list(sort=sort, status=status, prefix=prefix, owner=owner, limit=PAGE, cursor=cursor)
            yield from page.sessions
            cursor = page.cursor
            if cursor is None:
                return

    def events(
        self, last_event_id: str | None = None, *, prefix: str = "", kinds: tuple[str, ...] = (),
        patience_s: float = PATIENCE_S,
    ) -> EventStream:  # fmt: skip
        """Facts as they happen: an iterator that connects again by itself, without a gap or a repeat.

        From now on, or behind the fact that had `last_event_id`; `"0"` is the beginning of the log. Raises
        `LogUnavailable` after `patience_s` without a connection.
        """
        return EventStream(self, self._course(last_event_id, prefix, kinds, patience_s))

    def shutdown(self) -> None:
        """Close the connections. May be called again."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    def _do(self, call: Call[_R]) -> _R:
        if self._http.is_closed:
            raise EngineClosed("this client has been shut down: make another")
        conversation = Conversation(call, self._line)
        while (step := conversation.step) is not None:
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                conversation.go_on(None)
            else:
                conversation.go_on(self._send(step))
        return conversation.result

    def _send(self, send: Send) -> Reply | Lost:
        until_s = time.monotonic() + send.timeout_s
        if not self._turns.acquire(timeout=send.timeout_s):
            return no_room(self._connections, send.timeout_s)
        try:
            left_s = max(until_s - time.monotonic(), 0.001)
            response = self._http.send(self._http.build_request(**request_options(send, left_s)), stream=True)
            try:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > until_s:
                        raise TimeoutError(f"the answer was not whole after {send.timeout_s:g} s")
                    if len(content) > MAX_ANSWER_BYTES:
                        raise too_large()
            finally:
                response.close()
        except (httpx.HTTPError, TimeoutError) as error:
            return lost_by(error)
        finally:
            self._turns.release()
        return reply_of(response, bytes(content))


class EventStream(Iterator[Fact]):
    """Facts of a service. Iterate over it; `close` it, or use it as a context manager, when you have heard enough."""

    def __init__(self, client: Client, course: Course) -> None:
        self._client = client
        self._course = course
        self._facts = self._listen()

    @property
    def last_event_id(self) -> str | None:
        """The id of the fact that was told last: give it to `events` to go on behind that."""
        return self._course.reader.last_event_id

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
        course, client = self._course, self._client
        while True:
            try:
                with client._http.stream(**client._stream_options(course)) as response:
                    if is_stream(response.status_code, response.headers):
                        for chunk in response.iter_bytes():
                            course.connected()
                            yield from course.reader.feed(chunk)
                        wait_s = course.lost("the service ended it")
                    else:
                        wait_s = course.refused(reply_of(response, response.read()))
            except httpx.HTTPError as error:
                wait_s = course.lost(lost_by(error).why)
            time.sleep(wait_s)

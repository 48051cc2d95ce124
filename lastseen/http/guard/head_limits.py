"""What a connection may do before the guard sees a request: heads that never end, chunks of a byte, sockets that idle.

The parser under uvicorn would collect a head without limit, in memory and in time, and calls back for each chunk. The
guard's own check comes too late for that, since the application is asked when the head is complete.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lastseen.api.paths import EVENT_STREAM
from lastseen.api.problems import MEDIA_TYPE, Problem, document
from lastseen.api.status_phrases import phrase_of
from lastseen.http.guard.connections import Admission, Connections
from lastseen.http.guard.limits import Limits
from lastseen.http.guard.probes import PROBES


def bounded_protocol(limits: Limits) -> type[BoundedProtocol]:
    """The protocol to give uvicorn as `http`: sends 431 or 408 and closes the connection if a head is too large or too
    slow."""

    class Bounded(BoundedProtocol):
        max_head_bytes = limits.max_head_bytes + _SLACK_BYTES
        head_s = limits.head_s
        open_connections = Connections(limits.max_connections)

    return Bounded


FREE_CHUNKS, MIN_CHUNK_BYTES = 128, 128
"""So many chunks of a body may be of any size; those beyond must have so many bytes on average."""
PROBE_URLS = frozenset(path.encode("ascii") for path in PROBES)
LAST_REQUEST_S = 0.2
"""How long a connection without a request stays open when the service stops."""
_ONE_READ_S = 0.001
"""After a timer, how long until the event loop has certainly read what had arrived before it."""
_SLACK_BYTES = 8_192
"""What is only a little too large gets the guard's better answer."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits on connections, heads and chunks, and with an end that resets no request."""

    max_head_bytes: int
    head_s: float
    open_connections: Connections
    is_stopping = False
    """Whether each response is its connection's last: the caller sees that, and sends no request that is never read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = False
        self._unfinished_bytes = 0
        """Received since the parser last completed a head, a message, or a piece of a body."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._admission = Admission.ANY
        self._chunks = self._chunk_bytes = 0
        """Of the body that is being received."""
        self._refusal: Problem | None = None
        """Why the parser was stopped; `None` where it found no HTTP."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._admission = self.open_connections.admit(self, self.client[0] if self.client else None)
        if self._admission is Admission.NONE:
            self._close_with_problem(_too_many_connections())
        else:
            self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.leave(self)
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unfinished_bytes += len(data)
        before = self._unfinished_bytes
        super().data_received(data)
        if self._unfinished_bytes < before:
            return  # the parser got somewhere
        if self._unfinished_bytes > self.max_head_bytes:
            self._close_with_problem(
                Problem(431, "head-too-large", f"the head of a request may take {self.max_head_bytes} bytes")
            )
        elif self._is_in_head and self._head_timer is None:
            self._start_head_timer()

    def is_waiting(self) -> bool:
        """Whether no request is in progress that has arrived whole (`connections.Connection`)."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started)

    def is_unread_stream(self) -> bool:
        """Whether its answer is a stream of events of which something still waits to be sent."""
        is_stream = self.cycle is not None and self.cycle.scope["path"] == EVENT_STREAM
        return is_stream and self.transport.get_write_buffer_size() > 0

    def give_way(self) -> None:
        """Close the connection: another takes its place (`connections.Connection`)."""
        self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn calls it so
        """Answer what is no HTTP, or what a limit here refuses, with a problem, where an answer has a place."""
        problem = self._refusal or Problem(400, "bad-request", "the request is not valid HTTP")
        self._close_with_problem(problem, is_of_current=True)

    def _stop_parser(self, problem: Problem) -> NoReturn:
        """Have the parser stop in the middle of what it was given."""
        self._refusal = problem
        raise ValueError(problem.detail)

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._chunks = self._chunk_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._unfinished_bytes = 0
        self._stop_head_timer()
        is_reserved = self._admission is Admission.PROBES
        if is_reserved and self.url.partition(b"?")[0] not in PROBE_URLS:
            self._stop_parser(_too_many_connections())
        super().on_headers_complete()
        if (self.is_stopping or is_reserved) and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        """A chunk of a body begins."""
        self._chunks += 1
        if (self._chunks - FREE_CHUNKS) * MIN_CHUNK_BYTES > self._chunk_bytes:
            self._stop_parser(
                Problem(
                    400,
                    "chunks-too-small",
                    f"a body may have {FREE_CHUNKS} chunks of any size, and more of {MIN_CHUNK_BYTES} bytes on average:"
                    " send larger chunks, or Content-Length",
                )
            )

    def on_body(self, body: bytes) -> None:
        self._unfinished_bytes = 0
        self._chunk_bytes += len(body)
        super().on_body(body)

    def shutdown(self) -> None:
        """Close the connection after the response in progress; an idle one a moment later: a request may be coming."""
        self.is_stopping = True
        if self._is_idle():
            self.loop.call_later(LAST_REQUEST_S, self._read_last_request)
        else:
            super().shutdown()

    def _is_idle(self) -> bool:
        return (self.cycle is None or self.cycle.response_complete) and not self._unfinished_bytes

    def _read_last_request(self) -> None:
        # uvloop runs the timers that are due before it reads: a request that came while the loop was busy is unread.
        self.loop.call_later(_ONE_READ_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def on_message_complete(self) -> None:
        self._unfinished_bytes = 0
        super().on_message_complete()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_s, self._head_timed_out)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._close_with_problem(
            Problem(408, "head-too-slow", f"the head of a request must arrive within {self.head_s:g} s")
        )

    def _close_with_problem(self, problem: Problem, *, is_of_current: bool = False) -> None:
        """Answer and close. Where a response is in progress, the bytes of another would end up in it: then only close,
        unless the problem is of the request whose body is being received, and its response has not begun."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        has_place = cycle is None or cycle.response_complete
        if is_of_current and cycle is not None:
            has_place |= cycle.more_body and not cycle.response_started and not self.pipeline
        if has_place:
            body, fields = document(problem), {**problem.headers, "content-type": MEDIA_TYPE}
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            self.transport.write(
                b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (problem.status, phrase_of(problem.status).encode(), head.encode("latin-1"), len(body), body)
            )
        self.transport.close()


def _too_many_connections() -> Problem:
    return Problem(
        503,
        "too-many-connections",
        "too many connections are open: nothing was done, try again in a second, or use fewer",
        headers={"Retry-After": "1"},
    )

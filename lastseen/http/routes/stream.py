"""The route of the stream of facts: server-sent events that go on where they broke off."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator

from fastapi.sse import EventSourceResponse
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import queries
from lastseen.api.paths import EVENT_STREAM, EVENT_TICKETS
from lastseen.api.problems import Problem
from lastseen.api.requests import StreamTicketRequest
from lastseen.api.service_responses import StreamTicket
from lastseen.auth.caller import Caller, Scope
from lastseen.engine.errors import LastseenError
from lastseen.http import responses
from lastseen.http.caller import caller_of
from lastseen.http.fanout import EncodedFact, Fanout, Listener
from lastseen.http.guard.guard import TICKET
from lastseen.http.guard.stream_tickets import Ticket, checked_ticket, new_ticket
from lastseen.http.head_method import HEAD
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import body_of, or_none, query_of
from lastseen.http.routes.sessions import narrow_prefix
from lastseen.http.stream_cursors import StreamCursor, log_fingerprint
from lastseen.http.worker_threads import WorkerThreads

_logger = logging.getLogger("lastseen")
HEARTBEAT_S = 10.0
"""How often a stream without news says that it lives, and how far it has come."""
MAX_STREAM_S = 900.0
"""How long a stream lasts: then the client connects again, and whether it may listen is checked again."""
RETRY_MS = 1_000
"""When a client connects again, unless it knows better."""


class Stream:
    """One client's stream: what it missed, from the log, then what happens, as it happens."""

    def __init__(
        self, workers: WorkerThreads, fanout: Fanout, cursor: StreamCursor, prefix: str, kinds: frozenset[str]
    ) -> None:
        self._workers = workers
        self._engine = workers.engine
        self._fanout = fanout
        self._cursor = cursor
        self._prefix = prefix
        self._kinds = kinds
        self._held = workers.engine.held()
        self._give_up_at_s = 0.0

    async def check(self) -> None:
        """Raise `LogMismatch` where the log does not go back as far as the places, while that can still be answered."""
        for number, start, _ in self._ranges_behind():
            replay = await self._workers.call(self._engine.facts_replay, number)
            await self._workers.call(replay.check, start, start + 1)

    async def events(self) -> AsyncIterator[bytes]:
        """What goes over the wire."""
        self._give_up_at_s = time.monotonic() + MAX_STREAM_S
        listener = self._fanout.join()
        try:
            yield b"retry: %d\nid: %s\n\n" % (RETRY_MS, self._cursor.id.encode())
            listener.mark_missed()  # what happened since the request came
            while not self._is_over(listener):
                if listener.has_missed:
                    async for chunk in self._read_missed(listener):
                        yield chunk
                elif listener.waiting:
                    facts = list(listener.waiting)
                    listener.waiting.clear()
                    if chunk := self._chunk(facts):
                        yield chunk
                elif not await listener.wait(HEARTBEAT_S):
                    yield self._heartbeat()
        except LastseenError as error:
            # The client reconnects, and gets the error if it persists.
            _logger.warning("a stream was cut off: %s", error)
        finally:
            self._fanout.leave(listener)

    def _ranges_behind(self) -> list[tuple[int, int, int]]:
        """For each partition that has moved on from our place: its number, the place, and its end."""
        found = []
        for number in sorted(self._held):
            start, end = self._cursor.offset(number), self._engine.reached(number).offset + 1
            if start < end:
                found.append((number, start, end))
        return found

    async def _read_missed(self, listener: Listener) -> AsyncIterator[bytes]:
        """Everything from our places up to now. What comes meanwhile, waits."""
        listener.catch_up()
        said_s = time.monotonic()
        for number, start, end in self._ranges_behind():
            replay = await self._workers.replay(self._engine.facts_replay, number, self._prefix)
            pages = replay.pages(start, end)
            while (page := await self._workers.replay(next, pages, None)) is not None:
                if self._is_over(listener):
                    return
                chunk = self._chunk([EncodedFact(fact, self._fanout.source) for fact in page.facts])
                self._cursor.move_to(number, page.next_offset)
                if chunk or time.monotonic() >= said_s + HEARTBEAT_S:
                    said_s = time.monotonic()
                    yield chunk or self._heartbeat()

    def _is_over(self, listener: Listener) -> bool:
        return listener.is_over or self._engine.held() != self._held or time.monotonic() >= self._give_up_at_s

    def _heartbeat(self) -> bytes:
        """Facts that the filter kept back have moved the place too: who connects again need not hear them."""
        return b": here\nid: %s\n\n" % self._cursor.id.encode()

    def _chunk(self, facts: list[EncodedFact]) -> bytes:
        parts = []
        for each in facts:
            fact = each.fact
            if (
                self._cursor.advance_past(fact.id)
                and fact.key.startswith(self._prefix)
                and (not self._kinds or fact.kind in self._kinds)
            ):
                parts.append(b"id: %s\ndata: %s\n\n" % (self._cursor.id.encode(), each.text))
        return b"".join(parts)


class Streams:
    """The handler."""

    def __init__(self, workers: WorkerThreads, max_streams: int) -> None:
        self._workers = workers
        self._engine = workers.engine
        self._max_streams = max_streams
        self._fanout = Fanout(workers.engine)
        self._fingerprint = log_fingerprint(workers.engine.log_identity)
        workers.at_stop(self._fanout.stop)

    async def listen(self, request: Request) -> Response:
        """Listen."""
        caller = caller_of(request, Scope.READ)
        query = query_of(request, queries.StreamQuery)
        prefix, types = self._wanted(request, caller, query)
        if len(self._fanout) >= self._max_streams:
            raise Problem(
                503, "too-many-streams",
                f"{self._max_streams} streams are open, and that is the limit: try another instance",
                headers={"Retry-After": "5"},
            )  # fmt: skip
        partitions = len(self._engine.checkpoints())
        event_id = request.headers.get("last-event-id") or or_none(query.last_event_id)
        if event_id:
            cursor = StreamCursor.of(self._fingerprint, partitions, event_id)
        else:
            cursor = StreamCursor(
                self._fingerprint, [self._engine.reached(number).offset + 1 for number in range(partitions)]
            )
        kinds = frozenset(types.split(",")) if types else frozenset[str]()
        stream = Stream(self._workers, self._fanout, cursor, prefix, kinds)
        if event_id:
            await stream.check()
        # HEAD gets no facts, and adds no listener.
        events: AsyncIterator[bytes] | tuple[()] = () if request.method == HEAD else stream.events()
        return EventSourceResponse(events, headers={"Cache-Control": "no-cache, no-store", "X-Accel-Buffering": "no"})

    def _wanted(self, request: Request, caller: Caller, query: queries.StreamQuery) -> tuple[str, str]:
        """The prefix and the kinds to hear: those of the ticket, if there is one. Raises `Problem`."""
        ticket: Ticket | None = request.scope["state"].get(TICKET)
        if query.ticket is UNSET:
            return _allowed_prefix(request, caller, or_none(query.prefix) or ""), or_none(query.type) or ""
        if query.prefix is not UNSET or query.type is not UNSET:
            raise Problem(422, "invalid-parameter", "ticket: it names prefix and type, so leave them out")
        if ticket is None:  # the caller has shown its token, or there are none
            _, ticket = checked_ticket(query.ticket, {caller.name: caller}.get, self._engine.now_ms())
        return _allowed_prefix(request, caller, ticket.prefix), ticket.kinds

    async def issue(self, request: Request) -> Response:
        """Make a ticket."""
        caller = caller_of(request, Scope.READ)
        wanted = await body_of(request, StreamTicketRequest)
        prefix = _allowed_prefix(request, caller, or_none(wanted.prefix) or "")
        text, expires_at_ms = new_ticket(caller, prefix, or_none(wanted.type) or "", self._engine.now_ms())
        ticket = StreamTicket(text, expires_at_ms, f"{EVENT_STREAM}?ticket={text}")
        return responses.of_value(ticket, 201)


def _allowed_prefix(request: Request, caller: Caller, requested: str) -> str:
    """The prefix of a stream under `requested`. Raises `Problem` 403 where the caller may hear nothing of it."""
    prefix = narrow_prefix(caller.prefix, requested)
    if prefix is None:
        caller_of(request, Scope.READ, requested)  # says why
        raise AssertionError
    return prefix


def operations(workers: WorkerThreads, max_streams: int) -> list[Operation]:
    """The operations."""
    streams = Streams(workers, max_streams)
    return [
        Operation(
            "GET", EVENT_STREAM, "streamEvents", streams.listen, Scope.READ, "What takes effect, as it happens",
            {200: Success("Facts, each a CloudEvent on one line of `data`.", str, media_type="text/event-stream")},
            "Server-sent events, for an `EventSource`. The id of an event is its place in the log: a client that"
            " connects again, here or elsewhere, before or after a restart, continues after the last event that it"
            " received, without a gap and without a repeat. Without an id the stream begins now.",
            query=queries.StreamQuery, headers=("Last-Event-ID",), problems=(409,), tag="events",
        ),
        Operation(
            "POST", EVENT_TICKETS, "createStreamTicket", streams.issue, Scope.READ, "A ticket for an EventSource",
            {201: Success("The ticket, and the address of the stream.", StreamTicket)},
            "An `EventSource` cannot send a token, and a token must not stand in an address. A ticket opens the stream"
            " that it names for a minute, with the rights of the token that asks for it, at any instance. It can do"
            " nothing else, and is refused once the token is revoked.",
            body=StreamTicketRequest, body_example={"type": "created,ended"}, problems=(415,), tag="events",
        ),
    ]  # fmt: skip

"""The route of the stream of facts: server-sent events that go on where they broke off."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice

from fastapi.sse import EventSourceResponse
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import queries
from lastseen.api.problems import Problem
from lastseen.auth.caller import Scope
from lastseen.engine.errors import LastseenError
from lastseen.http.caller import caller_of
from lastseen.http.fanout import Fanout, Listener, Told
from lastseen.http.head_method import LOOK
from lastseen.http.operation import Answer, Operation
from lastseen.http.requests import or_none, query_of
from lastseen.http.routes.sessions import narrowed
from lastseen.http.stream_cursors import Places, mark_of
from lastseen.http.worker_threads import Door
from lastseen.projections.facts import Fact

_logger = logging.getLogger("lastseen")
MAX_STREAMS = 500
HEARTBEAT_S = 10.0
"""How often a stream without news says that it lives, and how far it has come."""
LONGEST_S = 900.0
"""How long a stream lasts: then the client connects again, and whether it may listen is looked at anew."""
RETRY_MS = 1_000
"""When a client connects again, unless it knows better."""
PAGE = 500
"""Facts fetched from the log at a time."""


class Stream:
    """One client's stream: what it missed, from the log, then what happens, as it happens."""

    def __init__(self, door: Door, fanout: Fanout, places: Places, prefix: str, kinds: frozenset[str]) -> None:
        self._door = door
        self._engine = door.engine
        self._fanout = fanout
        self._places = places
        self._prefix = prefix
        self._kinds = kinds
        self._held = door.engine.held()

    async def check(self) -> None:
        """Raise `LogMismatch` where the log does not go back as far as the places, while that can still be answered."""
        for number, start, _ in self._behind():
            await self._door.call(_page, self._engine.facts_between(number, start, start + 1))

    async def events(self) -> AsyncIterator[bytes]:
        """What goes over the wire."""
        give_up_at_s = time.monotonic() + LONGEST_S
        listener = self._fanout.join()
        try:
            yield b"retry: %d\nid: %s\n\n" % (RETRY_MS, self._places.id.encode())
            listener.miss()  # what happened since the request came
            while not listener.is_over and self._engine.held() == self._held and time.monotonic() < give_up_at_s:
                if listener.has_missed:
                    async for chunk in self._missed(listener):
                        yield chunk
                elif listener.waiting:
                    told = list(listener.waiting)
                    listener.waiting.clear()
                    if chunk := self._chunk(told):
                        yield chunk
                elif not await listener.wait(HEARTBEAT_S):
                    # Facts that the filter kept back have moved the place too: who connects again need not hear them.
                    yield b": here\nid: %s\n\n" % self._places.id.encode()
        except LastseenError as error:
            # The client connects again, and is told what is wrong if it still is.
            _logger.warning("a stream was broken off: %s", error)
        finally:
            self._fanout.leave(listener)

    def _behind(self) -> list[tuple[int, int, int]]:
        """For each partition that has moved on from our place: its number, the place, and its end."""
        found = []
        for number in sorted(self._held):
            start, end = self._places.offset(number), self._engine.reached(number).offset + 1
            if start < end:
                found.append((number, start, end))
        return found

    async def _missed(self, listener: Listener) -> AsyncIterator[bytes]:
        """Everything from our places up to now. What comes meanwhile, waits."""
        listener.catch_up()
        for number, start, end in self._behind():
            past = self._engine.facts_between(number, start, end)
            while page := await self._door.call(_page, past):
                if listener.is_over:
                    return
                if chunk := self._chunk([Told(fact, self._fanout.source) for fact in page]):
                    yield chunk
            self._places.move_to(number, end)

    def _chunk(self, told: list[Told]) -> bytes:
        parts = []
        for each in told:
            fact = each.fact
            if (
                self._places.pass_by(fact.id)
                and fact.key.startswith(self._prefix)
                and (not self._kinds or fact.kind in self._kinds)
            ):
                parts.append(b"id: %s\ndata: %s\n\n" % (self._places.id.encode(), each.text))
        return b"".join(parts)


def _page(past: Iterator[Fact]) -> list[Fact]:
    return list(islice(past, PAGE))


class Streams:
    """The handler."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._engine = door.engine
        self._fanout = Fanout(door.engine)
        self._mark = mark_of(door.engine.log_identity)
        door.at_stop(self._fanout.stop)

    async def listen(self, request: Request) -> Response:
        """Listen."""
        caller = caller_of(request, Scope.READ)
        asked = query_of(request, queries.Listening)
        prefix = narrowed(caller.prefix, asked.prefix)
        if prefix is None:
            caller_of(request, Scope.READ, asked.prefix)  # says why
            raise AssertionError
        if len(self._fanout) >= MAX_STREAMS:
            raise Problem(
                503, "too-many-streams", f"{MAX_STREAMS} streams are open, and that is the limit: try another instance",
                headers={"Retry-After": "5"},
            )  # fmt: skip
        partitions = len(self._engine.checkpoints())
        event_id = request.headers.get("last-event-id") or or_none(asked.last_event_id)
        if event_id:
            places = Places.of(self._mark, partitions, event_id)
        else:
            places = Places(self._mark, [self._engine.reached(number).offset + 1 for number in range(partitions)])
        kinds = frozenset(asked.type.split(",")) if asked.type is not UNSET else frozenset[str]()
        stream = Stream(self._door, self._fanout, places, prefix, kinds)
        if event_id:
            await stream.check()
        # Who only wants the head is told nothing, and does not join those who listen.
        events: AsyncIterator[bytes] | tuple[()] = () if request.method == LOOK else stream.events()
        return EventSourceResponse(events, headers={"Cache-Control": "no-cache, no-store", "X-Accel-Buffering": "no"})


def operations(door: Door) -> list[Operation]:
    """The operations."""
    streams = Streams(door)
    return [
        Operation(
            "GET", "/v1/events/stream", "streamEvents", streams.listen, Scope.READ, "What takes effect, as it happens",
            {200: Answer("Facts, each a CloudEvent on one line of `data`.", str, media_type="text/event-stream")},
            "Server-sent events, for an `EventSource`. The id of an event is its place in the log: a client that"
            " connects again, here or elsewhere, before or after a restart, goes on behind the last event it has had,"
            " without a gap and without a repeat. Without an id the stream begins now.",
            query=queries.Listening, headers=("Last-Event-ID",), problems=(409,), tag="events",
        ),
    ]  # fmt: skip

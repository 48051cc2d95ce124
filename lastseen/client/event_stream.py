"""Server-sent events, as a client reads them: bytes into facts, and when to connect again. No I/O.

An event is complete with its blank line: half an event, cut off with its connection, is neither returned nor
remembered. So the next connection continues right after the last complete event, without gaps or duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from lastseen.api.facts import FactEvent
from lastseen.client.address import Address
from lastseen.client.call import Response
from lastseen.client.connection import Connection, pause_s, retry_after_s
from lastseen.client.errors import ServiceError, error_for, problem_in
from lastseen.engine.arguments import Anything, wanted_kinds, wanted_text
from lastseen.engine.errors import LogUnavailable
from lastseen.projections.facts import Fact, FactId

READ_TIMEOUT_S = 30.0
"""A service sends a heartbeat every 10 s: after this long without any the connection is lost."""
PATIENCE_S = 60.0
MAX_EVENT_BYTES = 1_048_576
MEDIA_TYPE = "text/event-stream"


_decoder = msgspec.json.Decoder(FactEvent)


class EventReader:
    """Facts out of a stream's bytes, however they are cut."""

    def __init__(self, last_event_id: str | None) -> None:
        self.last_event_id = last_event_id
        """The id of the last fact: the next connection continues after it."""
        self.retry_s = 1.0
        """When to connect again, as the service wishes."""
        self._begin()

    def _begin(self) -> None:
        self._line = b""
        self._after_return = False
        self._lines: list[bytes] = []
        self._size = 0
        self._id: str | None = None

    def connection_lost(self) -> None:
        """The connection is gone, and with it what was not whole."""
        self._begin()

    def feed(self, chunk: bytes) -> Iterator[Fact]:
        """The facts that these bytes complete. To be read to the end. Raises `ServiceError` for what is none."""
        if self._after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        if chunk:
            self._after_return = chunk.endswith(b"\r")
        *lines, self._line = (self._line + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._bound(len(self._line))
        for line in lines:
            if line:
                self._take(line)
                continue
            content, self._lines, self._size = b"\n".join(self._lines), [], 0
            fact = _fact(content) if content else None
            if self._id is not None:
                self.last_event_id, self._id = self._id, None
            if fact is not None:
                yield fact

    def _bound(self, more: int) -> None:
        if self._size + more > MAX_EVENT_BYTES:
            raise ServiceError(
                f"an event of the stream is longer than {MAX_EVENT_BYTES} bytes: check that the address is that of the"
                " service",
                200,
            )

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._lines.append(value)
            self._size += len(value) + 1
            self._bound(0)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 6:
            self.retry_s = int(value) / 1000


def _fact(content: bytes) -> Fact:
    try:
        event = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServiceError(
            f"an event of the stream is not a fact ({error}): check that the address is the service's", 200
        ) from None
    data = event.data
    state = None if data.state is None else msgspec.to_builtins(data.state)
    fact_id = FactId(data.partition, data.offset, data.k)
    return Fact(fact_id, data.kind, event.subject, data.session_id, data.at_ms, data.reason, state)


class StreamPosition:
    """When a stream connects, and when it gives up."""

    def __init__(
        self, connection: Connection, last_event_id: str | None, query: Mapping[str, str], patience_s: float
    ) -> None:
        self.connection = connection
        self.reader = EventReader(last_event_id)
        self.query = query
        self._patience_s = patience_s
        self._tries = 0
        self._moves = 0
        self._lost_at_s = connection.now_s()

    @property
    def address(self) -> Address:
        """Where the next connection goes: after each that is lost, to the next address."""
        configured = self.connection.routes.configured
        return configured[self._moves % len(configured)]

    def headers(self) -> dict[str, str]:
        """The headers of the next connection."""
        headers = self.connection.headers(f"{MEDIA_TYPE}, application/problem+json")
        last = self.reader.last_event_id
        return headers if last is None else {**headers, "Last-Event-ID": last}

    def connected(self) -> None:
        """Bytes have come: the service is there."""
        self._tries = 0
        self._lost_at_s = self.connection.now_s()

    def disconnected(self, why: str, retry_after: str | None = None) -> float:
        """Seconds to wait before the next connection. Raises `LogUnavailable` after too long without any."""
        self.reader.connection_lost()
        self._tries += 1
        self._moves += 1
        wait_s = max(
            pause_s(self.connection, self._tries),
            retry_after_s(self.connection, retry_after),
            self.reader.retry_s * (0.5 + self.connection.jitter() / 2),
        )
        if self.connection.now_s() + wait_s - self._lost_at_s > self._patience_s:
            raise LogUnavailable(
                f"the stream of {self.connection.routes} could not be reached for {self._patience_s:g} s: {why}."
                f" Connect again with last_event_id = {self.reader.last_event_id!r} and no fact is missed"
            )
        return wait_s

    def refused(self, response: Response) -> float:
        """The same for an answer that is no stream. Raises what it stands for, where trying again is no use."""
        error = error_for(response.status, problem_in(response.headers, response.content))
        if response.status == 429 or response.status in (502, 503, 504):
            return self.disconnected(str(error), response.headers.get("retry-after"))
        raise error


def is_stream(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer is a stream."""
    return status == 200 and headers.get("content-type", "").partition(";")[0].strip().lower() == MEDIA_TYPE


def stream_query(prefix: str | Anything, kinds: tuple[str, ...] | Anything) -> dict[str, str]:
    """The query for facts of these keys and kinds; of all where nothing is given. Raises `InvalidSetting`."""
    begin, named = wanted_text("prefix", prefix), wanted_kinds(kinds)
    return {**({} if begin is None else {"prefix": begin}), **({"type": ",".join(named)} if named else {})}

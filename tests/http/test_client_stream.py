"""The stream of facts at a client: no gap and no repeat, whatever becomes of connections and servers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import Served

import lastseen
from lastseen import AsyncClient, Client, Engine, ServiceError
from lastseen.client.event_stream import MAX_EVENT_BYTES, EventReader
from lastseen.engine.errors import InvalidSetting, LogUnavailable
from lastseen.projections.facts import Fact, FactId, encode
from tests.patience import PATIENCE_S

KEY = "telegram:42"
HEAD = {"content-type": "text/event-stream; charset=utf-8"}


def fact(offset: int) -> Fact:
    state = {
        "key": KEY, "session_id": "h3Zq0mJ5Tn2b8c1xYw9KfA", "status": "active", "version": offset + 1, "owner": None,
        "created_at_ms": 1_700_000_000_000, "last_active_at_ms": 1_700_000_000_000 + offset, "deadline_ms": None,
        "holders": {},
    }  # fmt: skip
    return Fact(FactId(0, offset, 0), "touched", KEY, "h3Zq0mJ5Tn2b8c1xYw9KfA", 1_700_000_000_000 + offset, None, state)


def event(offset: int, end: bytes = b"\n") -> bytes:
    """A fact, as it goes over the wire."""
    return b"id: log:%d%sdata: %s%s%s" % (offset + 1, end, encode(fact(offset), "/test"), end, end)


# ── bytes into facts ──


@given(
    cuts=st.lists(st.integers(0, 2_000), max_size=12),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_facts_do_not_depend_on_where_the_bytes_are_cut(cuts: list[int], end: bytes) -> None:
    received = b"retry: 250" + end + b"id: log:0" + end + end + b": here" + end + end
    received += b"".join(event(n, end) for n in range(4))
    places = sorted({0, len(received), *(cut % len(received) for cut in cuts)})
    reader, seen = EventReader(None), []
    for first, last in pairwise(places):
        seen += [(each, reader.last_event_id) for each in reader.feed(received[first:last])]
    assert seen == [(fact(n), f"log:{n + 1}") for n in range(4)]
    assert reader.retry_s == 0.25


def test_half_an_event_is_neither_delivered_nor_remembered() -> None:
    whole, half = event(0), event(1)
    reader = EventReader(None)
    assert list(reader.feed(whole + half[:-1])) == [fact(0)]
    assert reader.last_event_id == "log:1"
    reader.connection_lost()
    assert list(reader.feed(event(1))) == [fact(1)]


def test_a_place_without_a_fact_counts() -> None:
    reader = EventReader("log:1")
    assert list(reader.feed(b": here\nid: log:9\n\n")) == []
    assert reader.last_event_id == "log:9"


LIES = [b"data: {}\n\n", b"data: hello\n\n", b"data: \xff\n\n", b"data: [1]\n\n", b"data: " + b"[" * 9_999 + b"\n\n"]


@pytest.mark.parametrize("lie", [*LIES, b"data: " + b"x" * (MAX_EVENT_BYTES + 1), b"data: x\n" * MAX_EVENT_BYTES])
def test_what_is_no_fact_is_an_error(lie: bytes) -> None:
    with pytest.raises(ServiceError):
        list(EventReader(None).feed(lie))


# ── connections ──

Script = list[httpx.Response | Exception]


class Scripted(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers by a script; the last answer is repeated without end."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces, which then breaks off, or ends in good order."""

    def __init__(self, pieces: list[bytes], breaks: bool) -> None:
        self.pieces, self.breaks = pieces, breaks

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.breaks:
            raise httpx.ReadError("connection reset")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def stream(*pieces: bytes, breaks: bool = True) -> httpx.Response:
    return httpx.Response(200, headers=HEAD, stream=Pieces(list(pieces), breaks))


def facts_of(kind: str, transport: Any, count: int, last_event_id: str | None = None, **options: Any) -> list[Fact]:
    """So many facts, as either client hears them."""
    if kind == "client":
        with Client("http://one:1", "token", transport=transport) as client:
            client._connection.jitter = lambda: 0.0
            with client.events(last_event_id, **options) as events:
                return [next(events) for _ in range(count)]

    async def listen() -> list[Fact]:
        async with AsyncClient("http://one:1", "token", transport=transport) as client:
            client._connection.jitter = lambda: 0.0
            async with client.events(last_event_id, **options) as events:
                return [await anext(events) for _ in range(count)]

    return asyncio.run(asyncio.wait_for(listen(), PATIENCE_S))


KINDS = pytest.mark.parametrize("kind", ["client", "async client"])
SOON = b"retry: 1\nid: log:0\n\n"


@KINDS
def test_a_stream_goes_on_where_it_broke_off(kind: str) -> None:
    transport = Scripted(
        [
            stream(SOON, event(0), event(1)[:40]),
            httpx.ConnectError("connection refused"),
            httpx.Response(502, text="bad gateway"),
            stream(event(1)[:-1]),
            stream(event(1) + event(2), breaks=False),
            stream(event(3)),
        ]
    )
    assert facts_of(kind, transport, 4) == [fact(n) for n in range(4)]
    asked = [request.headers.get("last-event-id") for request in transport.asked]
    assert asked == [None, "log:1", "log:1", "log:1", "log:1", "log:3"]
    assert {request.headers["authorization"] for request in transport.asked} == {"Bearer token"}


@KINDS
def test_a_stream_begins_behind_a_place_and_may_be_narrowed(kind: str) -> None:
    transport = Scripted([stream(event(5))])
    facts_of(kind, transport, 1, "log:5", prefix="tele gram:", kinds=("touched", "ended"))
    assert transport.asked[0].headers["last-event-id"] == "log:5"
    assert dict(transport.asked[0].url.params) == {"prefix": "tele gram:", "type": "touched,ended"}
    assert transport.asked[0].url.path == "/v1/events/stream"


def problem(status: int, slug: str, **headers: str) -> httpx.Response:
    content = {"type": f"/problems/{slug}", "title": "No", "status": status, "detail": "no"}
    return httpx.Response(status, headers={"content-type": "application/problem+json", **headers}, json=content)


@KINDS
@pytest.mark.parametrize("status", [401, 403, 409, 422])
def test_a_stream_that_is_refused_says_why(kind: str, status: int) -> None:
    with pytest.raises(ServiceError) as refused:
        facts_of(kind, Scripted([problem(status, "another-log")]), 1)
    assert (refused.value.status, refused.value.kind) == (status, "another-log")


@KINDS
def test_an_answer_that_is_no_stream_is_an_error(kind: str) -> None:
    for answer in (httpx.Response(200, text="hello"), httpx.Response(204), httpx.Response(302)):
        with pytest.raises(ServiceError):
            facts_of(kind, Scripted([answer]), 1)
    with pytest.raises(ServiceError):
        facts_of(kind, Scripted([stream(b"data: hello\n\n")]), 1)


@KINDS
def test_after_too_long_without_a_connection_it_is_given_up(kind: str) -> None:
    busy = problem(503, "shutting-down", **{"retry-after": "1"})
    for never in (httpx.ConnectError("connection refused"), busy):
        transport = Scripted([stream(SOON, event(0)), never])
        with pytest.raises(LogUnavailable, match="last_event_id = 'log:1'"):
            facts_of(kind, transport, 2, patience_s=0.3)
        assert len(transport.asked) >= 2


# ── a real service ──


class Current(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Reaches whichever server runs at the moment: a service that keeps its address across a restart."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.waiting, self.not_waiting = httpx.HTTPTransport(), httpx.AsyncHTTPTransport()

    def _moved(self, request: httpx.Request) -> httpx.Request:
        request.url = request.url.copy_with(host="127.0.0.1", port=self.served.port)
        return request

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.waiting.handle_request(self._moved(request))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.not_waiting.handle_async_request(self._moved(request))

    def close(self) -> None:
        self.waiting.close()

    async def aclose(self) -> None:
        await self.not_waiting.aclose()


@KINDS
def test_no_fact_is_missed_or_repeated_across_restarts(kind: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"

    def opened() -> tuple[Engine, Served]:
        engine = lastseen.open_engine(url, background=False)
        return engine, Served(engine).__enter__()

    engine, served = opened()
    engine.open(KEY)
    transport = Current(served)
    heard: list[Fact] = []
    listening = threading.Thread(
        target=lambda: heard.extend(facts_of(kind, transport, 40, "0")), name="lastseen-test-listener"
    )
    listening.start()
    done = 1
    for _ in range(2):
        for _ in range(10):
            engine.touch(KEY)
        done += 10
        served.stop()
        engine.touch(KEY)  # while no service runs
        done += 1
        engine.shutdown()
        engine, served = opened()
        transport.served = served
    while done < 40:
        engine.touch(KEY)
        done += 1
    listening.join(PATIENCE_S)
    served.stop()
    engine.shutdown()
    assert not listening.is_alive()
    assert [each.id for each in heard] == [FactId(0, n, 0) for n in range(1, 41)]
    assert [each.kind for each in heard] == ["created", *["touched"] * 39]
    assert [(each.state or {})["version"] for each in heard] == list(range(1, 41))


def test_a_wait_that_is_cancelled_misses_nothing(engine: Engine, served: Served) -> None:
    async def listen() -> list[str]:
        async with AsyncClient(served.address) as client, client.events("0") as events:
            heard = []
            for n in range(5):
                task = asyncio.ensure_future(anext(events))
                await asyncio.wait([task], timeout=0.02)
                task.cancel()
                done = await asyncio.gather(task, return_exceptions=True)
                heard += [each.key for each in done if isinstance(each, Fact)]
                await client.open(f"key-{n}")
            while len(heard) < 5:
                heard.append((await anext(events)).key)
            return heard

    heard = asyncio.run(asyncio.wait_for(listen(), PATIENCE_S))
    assert heard == [f"key-{n}" for n in range(5)]


def test_delivered_facts_are_what_happened(engine: Engine, served: Served) -> None:
    with Client(served.address) as client, client.events("0", prefix="a", kinds=("created", "ended")) as events:
        client.open("a", attributes={"owner": "ana"})
        client.open("b")
        client.touch("a")
        client.close("a", reason="logout")
        created, ended = next(events), next(events)
        assert (created.kind, created.key, created.at_ms) == ("created", "a", engine.session_spans("a")[0].began_at_ms)
        assert created.state is not None
        assert (created.state["owner"], created.state["version"]) == ("ana", 1)
        assert (ended.kind, ended.reason, ended.state) == ("ended", "logout", None)
        place = events.last_event_id
    client = Client(served.address)
    with client, client.events(place) as events:
        client.touch("b")
        assert next(events).kind == "touched"


@pytest.mark.parametrize("wanted", [{"prefix": ""}, {"prefix": None}, {"kinds": ()}, {"kinds": None}])
def test_a_filter_that_came_out_empty_does_not_mean_all_facts(wanted: dict[str, Any]) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(InvalidSetting, match="out for any"):
        client.events(**wanted)
    with pytest.raises(InvalidSetting, match="out for any"):
        AsyncClient("http://127.0.0.1:9").events(**wanted)

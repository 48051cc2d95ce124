"""The stream of facts: what an `EventSource` hears, and that it misses nothing and hears nothing twice."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from served import Served

import lastseen
from lastseen import Engine
from lastseen.configuration.service_settings import ServiceSettings
from lastseen.http.application import worker_threads_of
from lastseen.service.server import application, guard_of
from lastseen.service.signals import StopSignals
from tests.patience import PATIENCE_S, eventually

Problem = Callable[[httpx.Response], dict[str, Any]]
STREAM = "/v1/events/stream"


class Event(NamedTuple):
    """One event, as the HTML standard has a client see it."""

    id: str
    fact: dict[str, Any]

    @property
    def kind(self) -> str:
        """What happened."""
        kind: str = self.fact["data"]["kind"]
        return kind


class EventSource:
    """An `EventSource` by the book (HTML, section 9.2.6): fields, ids that stay, events without data not dispatched."""

    def __init__(self, client: httpx.Client, header: str = "", **params: str) -> None:
        headers = {"Last-Event-ID": header} if header else {}
        self._stream = client.stream("GET", STREAM, params=params, headers=headers)
        self.answer = self._stream.__enter__()
        self.last_event_id = header
        self.retry_ms: int | None = None
        self.comments = 0
        self._events = self._read() if self.answer.status_code == 200 else iter(())

    def _read(self) -> Iterator[Event]:
        fields: dict[str, str] = {}
        for line in self.answer.iter_lines():
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            else:
                self.last_event_id = fields.get("id", self.last_event_id)
                self.retry_ms = int(fields["retry"]) if "retry" in fields else self.retry_ms
                if "data" in fields:
                    yield Event(self.last_event_id, json.loads(fields["data"]))
                fields = {}

    def take(self, count: int) -> list[Event]:
        """The next events."""
        return [next(self._events) for _ in range(count)]

    def rest(self) -> list[Event]:
        """Everything until the server ends the stream."""
        return list(self._events)

    def close(self) -> None:
        """Hang up."""
        self._stream.__exit__(None, None, None)


@pytest.fixture
def listen(client: httpx.Client) -> Iterator[Callable[..., EventSource]]:
    """Opens streams that the test need not close."""
    opened: list[EventSource] = []

    def begin(header: str = "", **params: str) -> EventSource:
        source = EventSource(client, header, **params)
        opened.append(source)
        return source

    yield begin
    for source in opened:
        source.close()


def test_facts_are_heard_as_they_happen(listen: Callable[..., EventSource], engine: Engine) -> None:
    engine.open("before")
    source = listen()
    assert source.answer.headers["content-type"].startswith("text/event-stream")
    engine.open("a b", attributes={"owner": "ana"})
    engine.touch("a b")
    engine.rotate("a b")
    heard = source.take(4)
    assert source.retry_ms == 1_000
    assert [event.kind for event in heard] == ["created", "touched", "ended", "created"]
    first = heard[0].fact
    assert (first["subject"], first["type"], first["id"]) == ("a b", "lastseen.fact.created.v1", "0-2-0")
    assert first["data"]["state"]["owner"] == "ana"
    assert len({event.id for event in heard}) == 4


def test_who_connects_again_goes_on_behind_any_event(listen: Callable[..., EventSource], engine: Engine) -> None:
    source = listen()
    for key in ("a", "b"):
        engine.open(key)
        engine.rotate(key)
        engine.close(key)
    heard = source.take(8)
    source.close()
    engine.open("c")
    for place, event in enumerate(heard):
        again = listen(event.id)
        rest = again.take(8 - place)
        assert [each.fact["id"] for each in rest] == [each.fact["id"] for each in heard[place + 1 :]] + ["0-7-0"]
        assert [each.fact for each in rest[:-1]] == [each.fact for each in heard[place + 1 :]]
        again.close()


def test_from_the_beginning(listen: Callable[..., EventSource], engine: Engine) -> None:
    engine.open("a")
    engine.close("a")
    for source in (listen("0"), listen(last_event_id="0")):
        assert [event.kind for event in source.take(2)] == ["created", "ended"]


def test_across_a_restart_nothing_is_missed_and_nothing_comes_twice(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    heard: list[str] = []
    last_event_id, written = "", 0
    for life in range(3):
        with lastseen.open_engine(url, partitions=3) as engine, Served(engine) as served, served.client() as client:
            source = EventSource(client, last_event_id)
            for _ in range(20):
                engine.open(f"key-{written}")
                written += 1
            heard += [event.fact["subject"] for event in source.take(13)]
            last_event_id = source.last_event_id
            if life == 2:
                rest = written - len(heard)
                heard += [event.fact["subject"] for event in source.take(rest)]
            source.close()
        with lastseen.open_engine(url) as engine:  # meanwhile another process goes on
            engine.open(f"key-{written}")
            written += 1
    assert sorted(heard) == sorted(f"key-{number}" for number in range(written - 1))


def test_who_connects_again_and_again_under_load_hears_each_fact_once(
    listen: Callable[..., EventSource], engine: Engine
) -> None:
    total = 600

    def write() -> None:
        for number in range(total // 3):
            engine.open(f"key-{number}")
            engine.touch(f"key-{number}")
            engine.close(f"key-{number}")

    last_event_id, heard = listen().last_event_id or "0", list[str]()
    writer = threading.Thread(target=write)
    writer.start()
    while len(heard) < total:
        source = listen(last_event_id)
        heard += [event.fact["id"] for event in source.take(min(1 + len(heard) % 37, total - len(heard)))]
        last_event_id = source.last_event_id
        source.close()
    writer.join()
    assert heard == [f"0-{offset}-0" for offset in range(1, 1 + total)]


def test_filters(listen: Callable[..., EventSource], engine: Engine) -> None:
    only_a, only_ends = listen(prefix="a/"), listen(type="ended,suspended")
    for key in ("b/1", "a/1"):
        engine.open(key)
        engine.suspend(key)
        engine.close(key)
    assert [(event.fact["subject"], event.kind) for event in only_a.take(3)] == [
        ("a/1", "created"), ("a/1", "suspended"), ("a/1", "ended"),
    ]  # fmt: skip
    assert [(event.fact["subject"], event.kind) for event in only_ends.take(4)] == [
        ("b/1", "suspended"), ("b/1", "ended"), ("a/1", "suspended"), ("a/1", "ended"),
    ]  # fmt: skip


def test_facts_that_a_filter_kept_back_are_not_sent_again(
    listen: Callable[..., EventSource], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastseen.http.routes.stream.HEARTBEAT_S", 0.05)
    monkeypatch.setattr("lastseen.http.routes.stream.MAX_STREAM_S", 1.0)
    source = listen(prefix="mine")
    engine.open("theirs")
    assert source.rest() == []
    assert source.comments > 1
    # The second where the stream began only after the fact was there, and read it from the log.
    assert source.last_event_id.endswith((":1+1", ":2")), "a heartbeat gave the position after it"


def test_a_listener_that_is_slow_hears_everything(
    listen: Callable[..., EventSource], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastseen.http.fanout.MAX_QUEUED", 5)
    monkeypatch.setattr("lastseen.projections.subscriptions.QUEUED_FACTS", 50)
    source = listen()
    keys = [f"key-{number}" for number in range(60)]
    for key in keys:
        engine.open(key)
    for _ in range(20):
        assert all(not isinstance(each, Exception) for each in engine.touch_many(keys))
    heard = source.take(60 + 20 * 60)
    assert [event.fact["data"]["offset"] for event in heard] == list(range(1, 1 + 60 + 20 * 60))


def test_a_stream_ends_in_good_order_when_the_service_does(served: Served, engine: Engine) -> None:
    with served.client() as client:
        source = EventSource(client)
        engine.open("a")
        assert [event.kind for event in source.take(1)] == ["created"]
        stopping = threading.Thread(target=served.stop)
        stopping.start()
        assert source.rest() == []
        stopping.join(PATIENCE_S)
        assert not stopping.is_alive()


def test_a_stream_is_cut_after_a_while_and_goes_on(
    listen: Callable[..., EventSource], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastseen.http.routes.stream.MAX_STREAM_S", 0.0)
    source = listen()
    assert source.rest() == []
    engine.open("a")
    monkeypatch.undo()
    assert [event.fact["subject"] for event in listen(source.last_event_id).take(1)] == ["a"]


def test_listeners_that_hang_up_leave_nothing_behind(
    listen: Callable[..., EventSource], engine: Engine, client: httpx.Client
) -> None:
    for _ in range(3):
        source = listen()
        engine.open(f"key-{engine.count()}")
        source.take(1)
        source.close()

    def is_left() -> bool:
        engine.touch("key-0")  # only a write finds that the reader is gone
        return not engine._subscriptions._all

    eventually(is_left, "the engine has no subscriber")


@pytest.mark.parametrize(
    ("last_event_id", "status", "kind"),
    [
        ("nonsense", 422, "invalid-parameter"),
        ("0123abcd:1+x", 422, "invalid-parameter"),
        ("0123abcd:5", 409, "another-log"),
        ("0123abcd:5,6", 409, "another-log"),
    ],
)
def test_ids_that_are_none_of_ours(
    client: httpx.Client, problem: Problem, last_event_id: str, status: int, kind: str
) -> None:
    refused = problem(client.get(STREAM, headers={"Last-Event-ID": last_event_id}))
    assert (refused["status"], refused["type"]) == (status, f"/problems/{kind}")
    assert problem(client.get(STREAM, params={"last_event_id": last_event_id}))["status"] == status


def test_there_are_only_so_many_streams(engine: Engine, problem: Problem) -> None:
    with Served(engine, max_streams=1) as served, served.client() as client:
        source = EventSource(client, "")
        engine.open("a")
        source.take(1)
        refused = client.get(STREAM)
        source.close()
    assert problem(refused)["type"] == "/problems/too-many-streams"
    assert refused.headers["retry-after"] == "5"


def test_a_setting_says_how_many_streams_there_may_be(engine: Engine) -> None:
    settings = ServiceSettings(max_streams=520)
    app = application(engine, guard_of(settings), StopSignals(), max_streams=settings.max_streams)
    scope = {
        "type": "http", "method": "GET", "path": STREAM, "raw_path": STREAM.encode(), "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "scheme": "http", "http_version": "1.1",
    }  # fmt: skip

    async def status_of(tasks: list[asyncio.Task[None]]) -> int:
        status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        gone = asyncio.Event()
        has_asked = False

        async def receive() -> dict[str, Any]:
            nonlocal has_asked
            if has_asked:
                await gone.wait()
            has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.set_result(message["status"])

        tasks.append(asyncio.create_task(app({**scope, "state": {}}, receive, send)))
        return await asyncio.wait_for(status, PATIENCE_S)

    async def open_all() -> list[int]:
        """As many streams as the setting allows, and one more."""
        tasks: list[asyncio.Task[None]] = []
        found = [await status_of(tasks) for _ in range(521)]
        worker_threads_of(app).stop_streams()
        await asyncio.wait(tasks, timeout=PATIENCE_S)
        await worker_threads_of(app).close()
        return found

    assert asyncio.run(open_all()) == [200] * 520 + [503]

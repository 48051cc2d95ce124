"""Streams that read what they missed: they take turns with one another, and keep no command waiting."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from asgi_caller import Answer, request, sender
from served import Served
from tenant_requests import THEIRS
from tenant_worlds import OURS, World, fresh

from lastseen import Engine
from lastseen.http.application import worker_threads_of
from lastseen.http.worker_threads import REPLAY_THREADS
from lastseen.projections import facts_replay
from lastseen.projections.facts_replay import FactsReplay
from tests.patience import PATIENCE_S, eventually_async

RECORDS = 600


def test_commands_do_not_wait_for_streams_that_read_the_past(
    served: Served, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, begun = threading.Event(), threading.Semaphore(0)
    facts = FactsReplay._facts

    def wait(self: FactsReplay, *args: object) -> object:
        begun.release()
        assert go_on.wait(PATIENCE_S)
        return facts(self, *args)  # type: ignore[arg-type]

    engine.open("ana")
    monkeypatch.setattr(FactsReplay, "_facts", wait)
    streams: list[threading.Thread] = []

    def listen() -> None:
        with served.client() as client, client.stream("GET", "/v1/events/stream?last_event_id=0") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    return

    try:
        for _ in range(20):
            streams.append(threading.Thread(target=listen))
            streams[-1].start()
        for _ in range(REPLAY_THREADS):
            assert begun.acquire(timeout=PATIENCE_S)
        with served.client() as client:
            for number in range(20):
                assert client.post("/v1/sessions", json={"key": f"new{number}"}).status_code == 201
        assert all(stream.is_alive() for stream in streams)
    finally:
        go_on.set()
        for stream in streams:
            stream.join(PATIENCE_S)


def test_streams_of_a_tenant_that_owns_nothing_read_none_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "world", THEIRS, "bob", monkeypatch)
    world.enter()
    for number in range(RECORDS):
        world.engine.create(f"{THEIRS}n{number}")
    read, records = world.engine._log.read, []

    def counted(*args: object) -> object:
        found = read(*args)  # type: ignore[arg-type]
        records.extend(found)
        return found

    async def story() -> None:
        end = world.engine.reached(0).offset + 1
        monkeypatch.setattr(world.engine._log, "read", counted)
        answers = [Answer() for _ in range(8)]
        scope = request(path="/v1/events/stream", query=f"last_event_id=0&prefix={OURS}none".encode())
        hang_up = asyncio.Event()

        async def receive() -> dict[str, object]:
            await hang_up.wait()
            return {"type": "http.disconnect"}

        world.engine.close(f"{OURS}plain")  # heard by none of them: it is under another prefix
        streams = [
            asyncio.create_task(world.app(fresh(dict(scope), world.token), receive, sender(each))) for each in answers
        ]
        try:
            await eventually_async(lambda: all(b"id: " in each.body for each in answers))
            world.engine.create(f"{OURS}none")  # heard when the past is read
            await eventually_async(lambda: all(b"data: " in each.body for each in answers))
        finally:
            hang_up.set()
            await asyncio.gather(*streams)
            await worker_threads_of(world.app).close()
        assert end > RECORDS
        # Each: one record to see how far the log goes back, at most twice; and the newest record, which is its own.
        assert len(records) <= 8 * 4, "600 records of another tenant are not read by any of 8 streams"

    try:
        asyncio.run(story())
    finally:
        world.engine.shutdown()


def test_streams_take_turns(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_replay, "PAGE", 16)
    monkeypatch.setattr("lastseen.http.worker_threads.REPLAY_THREADS", 1)
    turns: list[int] = []
    pages = FactsReplay.pages

    def noted(self: FactsReplay, *args: int) -> object:
        for page in pages(self, *args):
            turns.append(id(self))
            yield page

    monkeypatch.setattr(FactsReplay, "pages", noted)
    for number in range(160):
        engine.create(f"n{number}")
    with Served(engine) as served:

        async def listen(client: httpx.AsyncClient) -> None:
            async with client.stream("GET", "/v1/events/stream?last_event_id=0") as stream:
                async for line in stream.aiter_lines():
                    if '"n159"' in line:
                        return

        async def story() -> None:
            async with httpx.AsyncClient(base_url=served.address, timeout=PATIENCE_S) as client:
                await asyncio.gather(*(listen(client) for _ in range(4)))

        asyncio.run(story())
    order = [turn for turn in turns if turns.count(turn) > 5]
    assert len(set(order)) == 4
    # While all four read, none has two turns before each of the others has had one.
    first, last = (
        max(order.index(each) for each in set(order)),
        min(len(order) - 1 - order[::-1].index(each) for each in set(order)),
    )
    together = order[first : last + 1]
    assert len(together) >= 8
    for at in range(len(together) - 8):
        assert len(set(together[at : at + 8])) == 4

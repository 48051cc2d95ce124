"""Requests that wait for a position take no threads, and keep neither probes nor commands waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import lastseen
from lastseen import Engine
from lastseen.engine.errors import LogUnavailable
from lastseen.http import position_waits, worker_threads
from lastseen.http.application import build, worker_threads_of
from lastseen.http.routes import health, metrics
from tests.patience import PATIENCE_S, eventually_async

READERS = 64


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with lastseen.open_engine(f"sqlite:///{tmp_path}/log.db", background=False) as opened:
        opened.open("ana")
        yield opened


class Stage:
    """The application of an engine, called without sockets, with all that wait and what they ask of the log."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(worker_threads, "POSITION_WAIT_S", PATIENCE_S)
        self.app = build(engine, operations=[health.router(engine), metrics.router(engine)])
        self.waits = worker_threads_of(self.app)._positions
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")
        self.asked = 0
        wait = engine._log.wait

        def counted(*args: Any) -> bool:
            self.asked += 1
            return wait(*args)

        monkeypatch.setattr(engine._log, "wait", counted)

    def read(self, offset: int) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(self.client.get("/v1/sessions/ana", params={"min_position": f"0:{offset}"}))


@pytest.fixture
def stage(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(engine, monkeypatch)


def test_probes_and_commands_are_answered_though_64_readers_wait(
    stage: Stage, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position_waits, "ASK_EVERY_S", PATIENCE_S)

    async def story() -> None:
        threads, asked_before = threading.active_count(), stage.asked
        far = engine.reached(0).offset + 2  # two more than there are: the command below writes one
        readers = [stage.read(far) for _ in range(READERS)]
        await eventually_async(lambda: len(stage.waits) == READERS, "every reader waits")
        await eventually_async(lambda: stage.asked > asked_before, "the log is asked")
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await stage.client.get(path)).status_code == 200
        assert (await stage.client.post("/v1/sessions/ana/suspend")).status_code == 200
        assert len(stage.waits) == READERS, "every reader still waits"
        # One thread for all of them, and one each for readiness, a scrape and a command.
        assert threading.active_count() <= threads + 4
        assert stage.asked - asked_before < READERS, "the log is asked for all of them together"
        assert (await stage.client.post("/v1/sessions/ana/resume")).status_code == 200
        assert {answer.status_code for answer in await asyncio.gather(*readers)} == {200}
        assert len(stage.waits) == 0

    asyncio.run(story())


def test_each_goes_on_when_its_own_position_is_there_and_no_sooner(stage: Stage, engine: Engine) -> None:
    async def story() -> None:
        end = engine.reached(0).offset + 1
        later, sooner = stage.read(end + 1), stage.read(end)
        await eventually_async(lambda: len(stage.waits) == 2)
        engine.touch("ana")
        assert (await sooner).headers["position"] == f"0:{end}"
        assert not later.done()
        engine.touch("ana")
        assert (await later).headers["position"] == f"0:{end + 1}"

    asyncio.run(story())


def test_what_the_log_says_reaches_those_who_wait(
    stage: Stage, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        reader = stage.read(engine.reached(0).offset + 1)
        await eventually_async(lambda: len(stage.waits) == 1)

        def is_away(*_: object) -> bool:
            raise LogUnavailable("the log is away")

        monkeypatch.setattr(engine._log, "wait", is_away)
        answer = await reader
        assert (answer.status_code, "the log is away" in answer.json()["detail"]) == (503, True)

    asyncio.run(story())

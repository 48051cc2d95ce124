"""What a service says of itself without any caller, on a real server: whether it is ready, as `/readyz` and metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served

import lastseen
from lastseen import Engine, ManualClock
from lastseen.engine.errors import ClockSkew
from lastseen.engine.log.sqlite import appendable
from lastseen.http.routes import health, metrics
from tests.durability.disk import FULL, Disk, a_disk
from tests.patience import eventually

S = 1_000
Metric = Callable[[str], float]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def disk() -> Iterator[Disk]:
    with a_disk() as made:
        yield made


@pytest.fixture
def engine(disk: Disk, tmp_path: Path, clock: ManualClock) -> Iterator[Engine]:
    with lastseen.open_engine(f"sqlite:///{tmp_path}/log.db", clock=clock, background=False) as opened:
        yield opened


@contextmanager
def serving(engine: Engine, patch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A server with probes and metrics, which looks at itself often."""
    patch.setattr(health, "WATCH_INTERVAL_S", 0.01)
    readiness = health.Readiness(engine, lambda: False, is_strict=False)
    routers = [
        health.router(engine, readiness=readiness),
        metrics.router(engine, None, health.ReadinessMetrics(readiness)),
    ]
    with Served(engine, operations=routers) as served, served.client() as client:
        yield client


def failing(client: httpx.Client) -> set[str]:
    """What the metrics say: the checks that fail, and `not ready`."""
    lines = client.get("/metrics").text.splitlines()
    found = {
        line.split('"')[1] for line in lines if line.startswith("lastseen_readiness_failing") and line[-3:] == "1.0"
    }
    return found | ({"not ready"} if "lastseen_ready 0.0" in lines else set())


def full(done: str, path: str) -> int:
    """A disk without room for the log."""
    return FULL if done == "write" and path.removesuffix("-wal").endswith("log.db") else 0


def eventually_failing(client: httpx.Client, what: set[str]) -> None:
    eventually(lambda: failing(client) == what, f"the metrics say {what}", every_s=0.01)


def eventually_refused(client: httpx.Client, *texts: str) -> None:
    """Until the probe says so: one that comes while a check runs, which may have begun before, gets its answer."""

    def is_refused() -> bool:
        answer = client.get("/readyz?verbose")
        return answer.status_code == 503 and all(text in answer.text for text in texts)

    eventually(is_refused, f"the probe says {texts}", every_s=0.01)


def test_a_log_that_hangs_shows_without_a_probe_or_a_caller(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.Readiness.found, "__defaults__", (0.05,))
    answers = threading.Event()
    ends = engine._log.end_offsets

    def hangs() -> list[int]:
        answers.wait()
        return ends()

    with serving(engine, monkeypatch) as client:
        eventually_failing(client, set())
        engine._log.end_offsets = hangs  # type: ignore[method-assign]
        try:
            eventually_failing(client, {"log", "not ready"})
            assert client.get("/livez").status_code == 200
        finally:
            answers.set()
        eventually_failing(client, set())


def test_a_full_disk_shows_until_a_write_can_succeed(
    engine: Engine, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(engine, monkeypatch) as client:
        assert client.post("/v1/sessions", json={"key": "one"}).status_code == 201
        engine.flush()

        disk.fault = full
        refused = client.post("/v1/sessions", json={"key": "two"})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/log-unavailable")
        eventually_refused(client, "[failing] writes: log ", "the disk is full: free some space")
        eventually_failing(client, {"writes", "not ready"})
        assert client.get("/v1/sessions/one").status_code == 200, "reads go on"
        disk.fault = None
        eventually_failing(client, set())  # no caller has written meanwhile
        assert client.post("/v1/sessions", json={"key": "two"}).status_code == 201
        assert [record.name for record in engine.history("two")] == ["created"], "looking has left nothing in the log"


def test_a_disk_that_filled_up_while_no_caller_wrote(
    engine: Engine, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(engine, monkeypatch) as client:
        eventually_failing(client, set())
        disk.fault = full
        monkeypatch.setattr(appendable, "has_room", lambda _: False)
        eventually_failing(client, {"writes", "not ready"})
        disk.fault = None
        eventually_failing(client, set())


def test_a_clock_behind_the_log_is_the_operators_fault(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(engine, monkeypatch) as client:
        assert client.post("/v1/sessions", json={"key": "one"}).status_code == 201
        right_ms = clock.now_ms()
        clock.set(right_ms - 600 * S)
        assert client.get("/readyz").status_code == 200, "events of now would count"
        clock.set(right_ms - 601 * S)
        eventually_refused(client, "[failing] clock: this machine's clock is 601 s behind the log's clock")
        eventually_failing(client, {"clock", "not ready"})
        refused = client.post("/v1/sessions/one/touch", json={"message": {}})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/clock-skew")
        assert refused.json()["error"] == "ClockSkew"
        clock.set(right_ms)
        eventually_failing(client, set())


def test_a_clock_ahead_of_the_log_is_known_from_our_own_void_records(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(engine, monkeypatch) as client:
        assert client.post("/v1/sessions", json={"key": "one"}).status_code == 201
        engine.flush()
        log: Any = engine._log
        log.log._clock = ManualClock(clock.now_ms())
        clock.advance(61 * S)
        assert client.get("/readyz").status_code == 200, "nothing tells of it yet"
        assert client.post("/v1/sessions/one/touch", json={"message": {}}).json()["error"] == "ClockSkew"
        eventually_refused(client, "61 s ahead of the log's clock")
        eventually_failing(client, {"clock", "not ready"})
        engine.flush()
        clock.advance(60 * S)
        eventually_failing(client, set())  # so that a write is tried again
        log.log._clock = clock
        assert client.post("/v1/sessions/one/touch", json={"message": {}}).status_code == 200


def test_strangers_void_records_do_not_make_an_engine_unready(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = ManualClock(clock.now_ms() - 3600 * S)
    with lastseen.open_engine(
        f"sqlite:///{tmp_path}/log.db", clock=theirs, background=False, snapshot=":memory:"
    ) as stranger, serving(engine, monkeypatch) as client:  # fmt: skip
        assert client.post("/v1/sessions", json={"key": "one"}).status_code == 201
        with pytest.raises(ClockSkew):
            stranger.create("two")
        engine.refresh()
        assert client.get("/readyz").text == "ready\n"

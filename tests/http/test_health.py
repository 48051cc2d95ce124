"""`/livez` and `/readyz`: who has to use another instance, and what operators read there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import lastseen
from lastseen import Engine, ManualClock
from lastseen.docs.operations_page import operations_page
from lastseen.engine.errors import LogUnavailable, SnapshotError
from lastseen.http.application import build
from lastseen.http.routes import health
from lastseen.monitoring.readiness import checks
from tests.patience import PATIENCE_S

S = 1_000


class Probes:
    """An application that is probed."""

    def __init__(self, engine: Engine) -> None:
        self.is_leaving = False
        self.app = build(engine, operations=[health.router(engine, lambda: self.is_leaving)])

    async def asks(self, *paths: str) -> list[httpx.Response]:
        """Probe all at the same time."""
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return list(await asyncio.gather(*(client.get(path) for path in paths)))

    def ask(self, path: str = "/readyz?verbose") -> httpx.Response:
        (answer,) = asyncio.run(self.asks(path))
        return answer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def engine(tmp_path: Path, clock: ManualClock) -> Iterator[Engine]:
    with lastseen.open_engine(f"sqlite:///{tmp_path}/log.db", clock=clock, background=False) as opened:
        yield opened


@pytest.fixture
def probes(engine: Engine) -> Probes:
    return Probes(engine)


def test_all_is_well(probes: Probes) -> None:
    answer = probes.ask()

    assert answer.status_code == 200
    lines = answer.text.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        f"[ok] {name}"
        for name in ("shutdown", "fold", "partitions", "log", "writes", "clock", "follower", "snapshot", "background")
    ]
    assert lines[-1] == "ready"
    assert answer.headers["cache-control"] == "no-store"
    assert (probes.ask("/readyz").text, probes.ask("/livez").text) == ("ready\n", "ok\n")


def test_every_check_is_explained(engine: Engine) -> None:
    for check in checks(engine):
        assert f"| `{check.name}` |" in operations_page()


def test_one_that_is_leaving_is_not_asked_any_more_and_still_lives(probes: Probes) -> None:
    probes.is_leaving = True

    answer = probes.ask()

    assert answer.status_code == 503
    assert "[failing] shutdown: the service is shutting down: use another instance\n" in answer.text
    assert probes.ask("/livez").status_code == 200


def test_an_engine_that_has_shut_down(probes: Probes, engine: Engine) -> None:
    engine.shutdown()
    answer = probes.ask()
    assert (answer.status_code, answer.text.splitlines()[-1]) == (503, "not ready")
    assert "[failing] fold: the engine has shut down: open another" in answer.text


def test_a_fold_that_was_torn(probes: Probes, engine: Engine) -> None:
    engine._follower.is_torn = True
    answer = probes.ask()
    assert answer.status_code == 503
    assert "[failing] fold: the fold was interrupted halfway" in answer.text


def test_a_log_that_cannot_be_reached(probes: Probes, engine: Engine) -> None:
    def is_away() -> list[int]:
        raise LogUnavailable("log sqlite: it is locked; see who holds it")

    engine._log.end_offsets = is_away  # type: ignore[method-assign]
    answer = probes.ask()
    assert answer.status_code == 503
    assert "[failing] log: log sqlite: it is locked; see who holds it\n" in answer.text


def test_a_log_that_never_answers(probes: Probes, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.Readiness.found, "__defaults__", (0.05,))
    asked, answers = [], threading.Event()

    def hangs() -> list[int]:
        asked.append(1)
        answers.wait()
        return [0]

    engine._log.end_offsets = hangs  # type: ignore[method-assign]

    async def probed() -> Any:
        first = await probes.asks("/readyz?verbose", "/readyz", "/livez")
        second = await probes.asks("/readyz")
        answers.set()
        while (last := (await probes.asks("/readyz"))[0]).status_code != 200:
            await asyncio.sleep(0.01)  # waits: the released thread needs a moment
        return first, second, last

    (verbose, terse, alive), (again,), last = asyncio.run(asyncio.wait_for(probed(), PATIENCE_S))

    assert (verbose.status_code, terse.status_code, alive.status_code, again.status_code) == (503, 503, 200, 503)
    assert "[failing] log: no response within 2 s" in verbose.text
    assert last.text == "ready\n"
    assert len(asked) <= 2, "probes share one question, so that threads do not pile up"


def test_a_view_that_is_far_behind(probes: Probes, engine: Engine, clock: ManualClock, tmp_path: Path) -> None:
    with lastseen.open_engine(
        f"sqlite:///{tmp_path}/log.db", clock=clock, background=False, snapshot=":memory:"
    ) as two:
        two.open("key")
    assert probes.ask().status_code == 200, "it has only just happened"
    clock.advance(10 * S + 1)

    answer = probes.ask()

    assert answer.status_code == 503
    assert "[failing] follower: 1 records behind, for 10.0 s; 10 s are allowed: wait" in answer.text
    engine.refresh()
    assert probes.ask().status_code == 200


def test_a_snapshot_that_cannot_be_written_is_a_warning(probes: Probes, engine: Engine, clock: ManualClock) -> None:
    engine._background.failures["flush"] = SnapshotError("snapshot s cannot be written: free some space")
    answer = probes.ask()
    assert answer.status_code == 200, "reads and writes stay right; another instance may have the same disk"
    assert "[warning] snapshot: snapshot s cannot be written: free some space\n" in answer.text

    del engine._background.failures["flush"]
    engine.open("key")
    clock.advance(60 * S + 1)
    assert "[warning] snapshot: 1 sessions have not been written for 60 s" in probes.ask().text


def test_a_duty_that_fails_is_a_warning(probes: Probes, engine: Engine) -> None:
    engine._background.failures["publish"] = LogUnavailable("no broker answers")
    answer = probes.ask()
    assert (answer.status_code, answer.text.splitlines()[-1]) == (200, "ready")
    assert "[warning] background: publish: no broker answers\n" in answer.text

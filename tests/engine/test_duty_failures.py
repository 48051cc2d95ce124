"""A duty that meets any exception goes on: it is counted, shown and tried again. The other duties go on meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from stage import MIN, Stage

from lastseen import policy
from lastseen.embedded.background import BackgroundThreads
from lastseen.embedded.engine import Engine
from lastseen.engine.errors import LogUnavailable
from lastseen.engine.log import duty_health
from lastseen.engine.log.duty_health import MOST_RETRY_S, RETRY_S, DutyHealth
from lastseen.monitoring.readiness import checks
from tests.patience import eventually


@pytest.fixture(autouse=True)
def _retries_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duty_health, "RETRY_S", 0.01)


class Breaks:
    """Raises `RuntimeError` in place of a call, until it is repaired."""

    def __init__(self, target: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._wrapped: Callable[..., Any] = getattr(target, name)
        self.is_broken = True
        monkeypatch.setattr(target, name, self)

    def __call__(self, *args: Any, **arguments: Any) -> Any:
        if self.is_broken:
            raise RuntimeError("injected")
        return self._wrapped(*args, **arguments)


def background_check(engine: Engine) -> str:
    """What readiness says of the duties."""
    return next(check.says for check in checks(engine) if check.name == "background")


@pytest.mark.parametrize(
    ("duty", "part", "name"),
    [
        ("follow", "_duties", "follow"),
        ("flush", "_maintenance", "flush"),
        ("archive", "_maintenance", "archive"),
        ("memory", "_maintenance.memory_relief", "make_room"),
        ("prune", "_pruner", "run"),
        ("prune", "_views", "next_deadline"),
    ],
)
def test_a_duty_survives_any_exception(
    on_disk: Stage, monkeypatch: pytest.MonkeyPatch, duty: str, part: str, name: str
) -> None:
    engine = on_disk.open(background=False, idle_ttl="30m", snapshot_interval="50ms", archive_interval="1m")
    target: Any = engine
    for each in part.split("."):
        target = getattr(target, each)
    breaks = Breaks(target, name, monkeypatch)
    engine._maintenance.start()
    engine.open("a")
    engine.open("b", policy=policy(idle_ttl=None))
    on_disk.clock.advance(30 * MIN)
    eventually(lambda: engine.duty_health.counts[duty] >= 2)
    assert "injected" in str(engine.health()[duty])
    if duty != "flush":  # readiness shows that one under `snapshot`
        assert f"{duty}: " in background_check(engine)
    assert engine.touch("b") is not None, "callers are served meanwhile"

    breaks.is_broken = False
    eventually(lambda: duty not in engine.health())
    eventually(lambda: engine.count() == 1)
    assert "injected" not in background_check(engine)
    assert engine.duty_health.counts[duty] >= 2


def test_a_publisher_survives_any_exception(on_disk: Stage) -> None:
    engine = on_disk.open()
    published: list[int] = []

    def publish() -> None:
        published.append(1)
        if len(published) < 3:
            raise RuntimeError("injected")

    threads = BackgroundThreads(engine._views, on_disk.clock)
    threads.start(follow=lambda: 0, flush=lambda: 0, flush_every_s=60, prune=None, publish=publish)
    try:
        eventually(lambda: len(published) >= 3 and not threads.failures)
    finally:
        threads.stop()
    assert threads.health.counts == {"publish": 2}


def test_a_failure_is_logged_with_its_traceback_once_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    health = DutyHealth()

    def fails(error: Exception) -> Callable[[], None]:
        def work() -> None:
            raise error

        return work

    with caplog.at_level(logging.INFO, "lastseen"):
        for error in [RuntimeError("one"), RuntimeError("one"), RuntimeError("two"), LogUnavailable("gone")]:
            health.attempt("flush", fails(error))
        health.attempt("flush", lambda: None)
    said = [(line.levelname, bool(line.exc_info)) for line in caplog.records]
    assert said == [("WARNING", True), ("WARNING", True), ("WARNING", False), ("INFO", False)]
    assert health.counts == {"flush": 4}
    assert health.failures == {}


def test_attempts_wait_longer_with_each_failure_unless_the_log_is_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duty_health, "RETRY_S", RETRY_S)
    health = DutyHealth(lambda: 100.0)
    waits = []
    for _ in range(8):
        health.failed("group", RuntimeError("again"))
        waits.append(health.wait_s("group"))
    assert waits == [1, 2, 4, 8, 16, MOST_RETRY_S, MOST_RETRY_S, MOST_RETRY_S]
    health.failed("group", LogUnavailable("no broker answers"))
    assert health.wait_s("group") == RETRY_S
    health.succeeded("group")
    assert health.wait_s("group") == 0

"""More than the service can do, over a real server: refusals come at once, what is taken is bounded, and it recovers.

The log is slow because a gate is shut, and not because of any clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served

import lastseen
from lastseen import ANY
from lastseen.auth.token_file import TokenFile
from lastseen.engine.log.memory import MemoryLog
from lastseen.http.guard.guard import Guard
from lastseen.http.guard.limits import Limits
from lastseen.http.guard.live_tokens import LiveTokens
from lastseen.http.routes import health
from tests.patience import PATIENCE_S, eventually

PLACES = 6
SHARE = PLACES // 2
LIMITS = Limits(max_requests=PLACES, max_streams=PLACES)
STREAM = "/v1/events/stream"
WAITS = 60
"""How many requests are too many here."""


class Overloaded:
    """A service whose log takes nothing while its gate is shut, and its callers."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, callers: ThreadPoolExecutor) -> None:
        self.gate = threading.Event()
        self.gate.set()
        append = MemoryLog.append

        def slow_append(log: MemoryLog, *arguments: Any) -> Any:
            assert self.gate.wait(PATIENCE_S)
            return append(log, *arguments)

        patch.setattr(MemoryLog, "append", slow_append)
        self.engine = lastseen.open_engine("memory://", background=False)
        tokens = TokenFile(folder / "tokens.json")
        scopes = ["read", "touch", "manage"]
        self.tokens = {name: tokens.create(name, scopes, f"{name}:", 0)[0] for name in ("a", "b")}
        self.tokens["a2"], _ = tokens.create("a2", scopes, "a:", 0)
        self.tokens["all"], _ = tokens.create("all", scopes, ANY, 0)
        self._known = LiveTokens(tokens)
        self.guards: list[Guard] = []
        self.callers = callers
        self.served = Served(self.engine, guard=self._guarded, operations=[health.router(self.engine, lambda: False)])
        for key in ("a:1", "b:1"):
            self.engine.create(key)

    def _guarded(self, app: Any) -> Guard:
        self.guards.append(Guard(app, tokens=self._known, limits=LIMITS, write=dict))
        return self.guards[-1]

    @property
    def guard(self) -> Guard:
        """The one that is asked."""
        return self.guards[-1]

    def touch(self, token: str, key: str) -> httpx.Response:
        """A touch with a message, which is appended on its own."""
        with self.client(token) as client:
            return client.post(f"/v1/sessions/{key}/touch", json={"message": {"text": "x" * 1000}})

    def client(self, token: str) -> httpx.Client:
        """A client with a token."""
        return self.served.client(headers={"Authorization": f"Bearer {self.tokens[token]}"})

    def send(self, token: str, key: str, count: int) -> list[Future[httpx.Response]]:
        """So many touches at once."""
        return [self.callers.submit(self.touch, token, key) for _ in range(count)]


@pytest.fixture
def overloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Overloaded]:
    with ThreadPoolExecutor(WAITS, thread_name_prefix="caller") as callers:
        service = Overloaded(tmp_path, monkeypatch, callers)
        with service.engine:
            try:
                with service.served:
                    yield service
                    service.gate.set()
            finally:
                service.gate.set()


def until(is_so: Callable[[], bool]) -> None:
    eventually(is_so, "requests arrive at the server", every_s=0.002)


def assert_turned_away(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/overloaded")
    assert int(answer.headers["Retry-After"]) >= 1


def test_what_is_too_much_is_turned_away_while_the_rest_is_worked_on(overloaded: Overloaded) -> None:
    service = overloaded
    ends = service.engine.checkpoints()
    service.gate.clear()
    taken = service.send("all", "a:1", PLACES)
    until(lambda: service.guard.requests == PLACES)
    held_bytes = service.guard._bodies.held_bytes
    for answer in [each.result(PATIENCE_S) for each in service.send("all", "b:1", WAITS - PLACES)]:
        assert_turned_away(answer)  # before the gate opens: no caller waits for a place
    assert not any(each.done() for each in taken)
    assert service.guard.requests == PLACES
    assert service.guard._bodies.held_bytes == held_bytes <= PLACES * 2_000, "bodies of those turned away are not kept"
    with service.client("all") as client:
        assert client.get("/livez").status_code == 200, "probes are answered under load"
    assert service.engine.checkpoints() == ends
    service.gate.set()
    assert [each.result(PATIENCE_S).status_code for each in taken] == [200] * PLACES
    until(lambda: service.guard.requests == 0)
    assert service.guard._bodies.held_bytes == 0
    assert service.touch("all", "b:1").status_code == 200, "no restart is needed"
    session = service.engine.get("b:1")
    assert session is not None
    assert session.version == 2, "what was turned away has done nothing"


def test_one_tenant_cannot_take_all_places(overloaded: Overloaded) -> None:
    service = overloaded
    service.gate.clear()
    taken = service.send("a", "a:1", SHARE)
    until(lambda: service.guard.requests == SHARE)
    for token in ("a", "a2"):  # with another token it is the same tenant still
        assert_turned_away(service.touch(token, "a:1"))
    others = service.send("b", "b:1", 1)
    until(lambda: service.guard.requests == SHARE + 1)
    with service.client("b") as client:
        assert client.get("/v1/sessions/b:1").status_code == 200, "others are answered"
    service.gate.set()
    assert [each.result(PATIENCE_S).status_code for each in (*taken, *others)] == [200] * (SHARE + 1)
    until(lambda: service.guard.requests == 0)
    assert service.touch("a2", "a:1").status_code == 200


def test_one_tenant_cannot_take_all_streams(overloaded: Overloaded) -> None:
    service = overloaded
    with service.client("a") as ours, service.client("b") as theirs:
        streams = [ours.stream("GET", STREAM) for _ in range(SHARE)]
        assert [each.__enter__().status_code for each in streams] == [200] * SHARE
        assert_turned_away(ours.get(STREAM))
        with theirs.stream("GET", STREAM) as answer:
            assert answer.status_code == 200
            assert service.guard.streams == SHARE + 1
        for each in streams:
            each.__exit__(None, None, None)
        until(lambda: service.guard.streams == 0)
        with ours.stream("GET", STREAM) as answer:
            assert answer.status_code == 200

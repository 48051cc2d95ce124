"""The JavaScript client of the session manager's calls, on Node.js, against a real server, beside the drop-in."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_program import node
from starlette.types import ASGIApp, Receive, Scope, Send

import lastseen
from lastseen import Engine, ManualClock
from lastseen.compat.manager import SessionManager
from lastseen.http.application import Unguarded
from lastseen.http.routes import pruning
from tests.http.served import Served
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "examples" / "javascript" / "session-manager.mjs"
MIN, HOUR = 60_000, 3_600_000
T0 = 1_700_000_000_000
TIMEOUT_MS = 5 * MIN


class Recording:
    """The guard of a service that keeps what it was asked: method and path of each request."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    def __call__(self, app: ASGIApp) -> ASGIApp:
        guarded = Unguarded(app)

        async def record(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.requests.append(f"{scope['method']} {scope['raw_path'].decode('ascii')}")
            await guarded(scope, receive, send)

        return record


class JavaScript:
    """The client in a process of its own: a call here is the same call there."""

    def __init__(self, url: str, clock: ManualClock, **options: Any) -> None:
        self._clock = clock
        self._process = subprocess.Popen(
            [node(), str(Path(__file__).with_name("manager_driver.mjs")), json.dumps({"url": url, **options})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def reported(self, call: str, *args: Any) -> dict[str, Any]:
        """What a call gave: `value`, or what it threw."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([self._clock.now_ms(), call, *args]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __call__(self, call: str, *args: Any) -> Any:
        reported = self.reported(call, *args)
        assert "error" not in reported, reported
        return reported["value"]

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_S) == 0, "it ends by itself, with nothing left to wait for"
        self._process.stdout.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
def engine(clock: ManualClock) -> Iterator[Engine]:
    with lastseen.open_engine("memory://", clock=clock, background=False) as opened:
        yield opened


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.fixture
def javascript(engine: Engine, recording: Recording, clock: ManualClock) -> Iterator[JavaScript]:
    """The client of a server of the engine."""
    with Served(engine, guard=recording) as served:
        client = JavaScript(served.address, clock, sessionTimeout=TIMEOUT_MS, requestTimeout=10 * PATIENCE_S * 1_000)
        yield client
        client.end()


@pytest.fixture
def drop_in(clock: ManualClock) -> Iterator[SessionManager]:
    """The drop-in on an engine of its own, on the same clock."""
    with (
        lastseen.open_engine("memory://", clock=clock, background=False) as engine,
        SessionManager(TIMEOUT_MS, 10_000 * HOUR, engine=engine, clock=clock, metrics_interval_ms=None) as made,
    ):
        yield made


def python_name(call: str) -> str:
    """`getSession` as the drop-in names it."""
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), call)


STORY: list[list[Any]] = [
    ["getMetrics"],
    ["createSession", "conv-1", "chat-1"],
    ["createSession", "conv/2?x=%2F&y#z ü", "chat-2", "message-1"],
    [MIN],
    ["getSession", "conv/2?x=%2F&y#z ü"],
    ["getSession", "unheard-of"],
    ["updateParentId", "conv-1", "message-2"],
    ["updateParentId", "unheard-of", "message-2"],
    ["getSessionInfo", "conv-1"],
    ["getSessionInfo", "unheard-of"],
    ["updateParentId", "conv-1", None],
    ["getAllSessions"],
    ["getMetrics"],
    [MIN],
    ["createSession", "conv-1", "chat-3"],
    ["getSession", "conv-1"],
    ["deleteSession", "conv/2?x=%2F&y#z ü"],
    ["deleteSession", "conv/2?x=%2F&y#z ü"],
    ["getSessionCount"],
    ["getOldestSessionAge"],
    ["getNewestSessionAge"],
    [TIMEOUT_MS],
    ["getSessionInfo", "conv-1"],
    [1],
    ["getSessionInfo", "conv-1"],
    ["getSession", "conv-1"],
    ["updateParentId", "conv-1", "message-3"],
    ["deleteSession", "conv-1"],
    ["cleanup"],
    ["cleanup"],
    ["getMetrics"],
    ["createSession", "conv-3", "chat-3"],
    ["createSession", "conv-4", "chat-4"],
    ["clearAll"],
    ["clearAll"],
    ["getAllSessions"],
    ["getMetrics"],
]


def test_the_same_calls_give_the_same_answers(
    javascript: JavaScript, drop_in: SessionManager, clock: ManualClock
) -> None:
    for step in STORY:
        if isinstance(step[0], int):
            clock.advance(step[0])
            continue
        call, *args = step
        there = javascript(call, *args)
        here = json.loads(json.dumps(getattr(drop_in, python_name(call))(*args)))
        assert there == here, step


def test_the_client_has_every_call_of_the_drop_in() -> None:
    calls = set(re.findall(r"^  async (\w+)\(", CLIENT.read_text(encoding="utf-8"), re.MULTILINE)) - {"request"}
    own = {"of_preset", "get_health", "get_alerts", "log_metrics", "shutdown"}  # what the service tells by other means
    public = {name for name in vars(SessionManager) if not name.startswith("_")} - own
    assert {python_name(call) for call in calls} == public
    assert calls == {step[0] for step in STORY if isinstance(step[0], str)}, "the story tells each"


def documented() -> dict[str, str]:
    """The page's table: calls and their requests."""
    page = (ROOT / "docs" / "how-to" / "compat-manager.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\w+)` \| `([A-Z]+ /v1/\S+)` \|", page, re.MULTILINE))


def test_each_call_is_one_request_as_the_page_says(javascript: JavaScript, recording: Recording) -> None:
    calls = {step[0]: step[1:] for step in STORY if isinstance(step[0], str)}
    javascript("createSession", "conv/1", "chat-1")
    assert set(documented()) == set(calls)
    for call, request in documented().items():
        method, path = request.split()
        args = ["conv/1", *calls[call][1:]] if "{id}" in path else calls[call]
        del recording.requests[:]
        javascript("createSession", "new", "chat") if call == "createSession" else javascript(call, *args)
        if call == "clearAll":
            listing = recording.requests.pop(0)
            assert listing == documented()["getAllSessions"]
        assert recording.requests == [f"{method} {path.replace('{id}', 'conv%2F1')}"], call
        if call == "deleteSession":
            javascript("createSession", "conv/1", "chat-1")
            javascript("deleteSession", "new")


def test_a_session_that_is_created_again_takes_a_second_request(javascript: JavaScript, recording: Recording) -> None:
    javascript("createSession", "conv/1", "chat-1")
    del recording.requests[:]
    javascript("createSession", "conv/1", "chat-2")
    assert recording.requests == ["POST /v1/sessions", "POST /v1/sessions/conv%2F1/rotate"]


def test_cleanup_ends_in_a_second_request_what_the_first_one_planned(
    javascript: JavaScript, recording: Recording, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "MAX_ROWS", 2)
    for number in range(3):
        javascript("createSession", f"conv-{number}", "chat")
    del recording.requests[:]
    assert javascript("cleanup") == 0
    assert recording.requests == ["POST /v1/prune"]
    clock.advance(TIMEOUT_MS + 1)
    del recording.requests[:]
    assert javascript("cleanup") == 3
    assert recording.requests == ["POST /v1/prune"] * 4, "a plan and its doing, of two sessions and of one"
    assert javascript("getMetrics")["totalCleaned"] == 3


def test_all_sessions_of_many_pages(javascript: JavaScript, engine: Engine) -> None:
    for number in range(1_001):
        engine.create(f"conv-{number}")
    assert [conversation_id for conversation_id, _ in javascript("getAllSessions")] == [
        f"conv-{number}" for number in range(1_001)
    ]


def test_a_suspended_session_is_shown(javascript: JavaScript, engine: Engine) -> None:
    javascript("createSession", "conv-1", "chat-1")
    engine.suspend("conv-1")
    assert javascript("getSession", "conv-1")["chatId"] == "chat-1"


def test_what_the_service_refuses_is_thrown_with_its_kind(javascript: JavaScript) -> None:
    reported = javascript.reported("createSession", "", "chat-1")
    assert (reported["error"], reported["status"]) == ("ServiceError", 422)
    assert reported["type"].startswith("/problems/")
    assert javascript.reported("getSession", "..")["error"] == "RangeError"


def test_shutdown_is_repeatable_and_final(javascript: JavaScript) -> None:
    javascript("createSession", "conv-1", "chat-1")
    javascript("shutdown")
    javascript("shutdown")
    assert "shut down" in javascript.reported("getSession", "conv-1")["message"]


def test_a_service_that_is_not_there(clock: ManualClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = JavaScript(f"http://127.0.0.1:{silent.getsockname()[1]}", clock, requestTimeout=100)
        assert client.reported("getSession", "conv-1")["message"].endswith("no answer in 100 ms")
        client.end()

"""Reads of the past do not take the threads of commands, and end where their callers do not wait any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from lastseen import Engine
from lastseen.http import worker_threads
from lastseen.http.guard.guarded_response import GuardedResponse
from lastseen.http.worker_threads import COMMAND_THREADS, PAST_THREADS
from lastseen.projections.as_of import KeyRefold
from tests.patience import PATIENCE_S, eventually

Problem = Callable[[httpx.Response], dict[str, Any]]
PATHS = ["/v1/sessions/old?as_of={at}", "/v1/sessions/old/messages?as_of={at}"]


@pytest.fixture
def at(engine: Engine) -> int:
    """A time at which `old` had 40 records."""
    engine.open("old")
    for number in range(40):
        engine.touch("old", message={"number": number})
    session = engine.get("old")
    assert session is not None
    return session.last_active_at_ms


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The records that reads of the past have folded again."""
    found: list[int] = []
    fold = KeyRefold._fold

    def counted(self: KeyRefold, *args: Any, **named: Any) -> None:
        found.append(1)
        fold(self, *args, **named)

    monkeypatch.setattr(KeyRefold, "_fold", counted)
    return found


@pytest.mark.parametrize("path", PATHS)
def test_commands_do_not_wait_for_reads_of_the_past(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, at: int, path: str
) -> None:
    go_on, begun = threading.Event(), threading.Semaphore(0)
    fold = KeyRefold._fold

    def wait(self: KeyRefold, *args: Any, **named: Any) -> None:
        begun.release()
        assert go_on.wait(PATIENCE_S)
        fold(self, *args, **named)

    monkeypatch.setattr(KeyRefold, "_fold", wait)
    monkeypatch.setattr(worker_threads, "PAST_S", PATIENCE_S)
    with ThreadPoolExecutor(2 * COMMAND_THREADS) as pool:
        reads = [pool.submit(client.get, path.format(at=at), timeout=PATIENCE_S) for _ in range(2 * COMMAND_THREADS)]
        try:
            for _ in range(PAST_THREADS):
                assert begun.acquire(timeout=PATIENCE_S)
            for number in range(COMMAND_THREADS + 1):
                assert client.post("/v1/sessions", json={"key": f"new{number}"}).status_code == 201
            assert not any(read.done() for read in reads)
        finally:
            go_on.set()
        assert [read.result().status_code for read in reads] == [200] * len(reads)


@pytest.mark.parametrize("path", PATHS)
def test_a_read_of_the_past_that_takes_too_long_is_given_up(
    client: httpx.Client, problem: Problem, monkeypatch: pytest.MonkeyPatch, at: int, path: str, folded: list[int]
) -> None:
    monkeypatch.setattr(worker_threads, "PAST_S", -1.0)
    answer = client.get(path.format(at=at))
    assert (answer.status_code, problem(answer)["type"]) == (503, "/problems/too-slow")
    assert answer.headers["retry-after"] == "1"
    assert folded == []
    monkeypatch.setattr(worker_threads, "PAST_S", PATIENCE_S)
    assert client.get(path.format(at=at)).status_code == 200
    assert len(folded) == 41


@pytest.mark.parametrize("path", PATHS)
def test_a_read_of_the_past_ends_when_its_caller_got_a_time_out(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, at: int, path: str, folded: list[int]
) -> None:
    monkeypatch.setattr(GuardedResponse, "timed_out", property(lambda _: len(folded) >= 5))
    monkeypatch.setattr(worker_threads, "current_response", Current())
    assert client.get(path.format(at=at)).status_code == 503
    assert len(folded) == 5


class Current:
    """The response that every request waits for."""

    def get(self) -> GuardedResponse:
        return GuardedResponse({}, None)  # type: ignore[arg-type]


def test_no_more_than_some_wait_for_their_turn(
    client: httpx.Client, problem: Problem, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(worker_threads, "PAST_WAITERS", 0)
    answer = client.get(PATHS[0].format(at=at))
    assert "too many requests" in problem(answer)["detail"]


def test_the_thread_of_a_read_that_was_given_up_is_free(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(worker_threads, "PAST_S", -1.0)
        for _ in range(2 * PAST_THREADS):
            assert client.get(PATHS[0].format(at=at)).status_code == 503
    assert eventually(lambda: client.get(PATHS[0].format(at=at)).status_code == 200)

"""Retries: requests with one `Idempotency-Key` have one effect and one answer, also when they come at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from lastseen import Engine
from lastseen.api.problems import Problem as Refusal
from lastseen.auth.caller import Caller
from lastseen.engine.errors import LogUnavailable, OutcomeUnknown
from lastseen.http.idempotency import REMEMBER_S, Idempotency
from tests.patience import PATIENCE_S

Problem = Callable[[httpx.Response], dict[str, Any]]
ANA = Caller("ana", frozenset())
WANTED = {"key": "telegram:42", "if_exists": "refuse"}


def post(client: httpx.Client, key: str, body: dict[str, Any] | None = None) -> httpx.Response:
    return client.post("/v1/sessions", json=body or WANTED, headers={"Idempotency-Key": key})


def test_a_retry_gets_the_first_answer(client: httpx.Client, engine: Engine, problem: Problem) -> None:
    first, again = post(client, "one"), post(client, "one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert (again.headers["location"], again.headers["etag"]) == (first.headers["location"], first.headers["etag"])
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert problem(post(client, "two"))["error"] == "SessionExists"
    assert engine.reached(0).offset == 1


def test_another_body_is_not_a_retry(client: httpx.Client, problem: Problem) -> None:
    post(client, "one")
    assert problem(post(client, "one", {"key": "other"}))["type"] == "/problems/idempotency-key-reused"


@pytest.mark.parametrize("key", ["", "a b", "x" * 129])
def test_keys_have_a_form(client: httpx.Client, problem: Problem, key: str) -> None:
    assert problem(post(client, key))["type"] == "/problems/invalid-parameter"


def test_requests_at_once_have_one_effect(client: httpx.Client, engine: Engine) -> None:
    start = threading.Barrier(8)

    def send(_: int) -> httpx.Response:
        start.wait(PATIENCE_S)
        return post(client, "one")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert [("idempotency-replayed" in answer.headers) for answer in answers].count(False) == 1
    assert engine.reached(0).offset == 1


def test_a_creation_that_was_not_heard_of_is_found_again(
    client: httpx.Client, engine: Engine, monkeypatch: pytest.MonkeyPatch, problem: Problem
) -> None:
    create = engine.create

    def lost(*args: Any, **kwargs: Any) -> None:
        create(*args, **kwargs)
        raise OutcomeUnknown("the append may or may not be in the log: read before you try again")

    monkeypatch.setattr(engine, "create", lost)
    assert problem(post(client, "one"))["status"] == 504
    monkeypatch.undo()
    found = post(client, "one")
    assert found.status_code == 201
    session = engine.get("telegram:42")
    assert session is not None
    assert (found.json()["session_id"], session.version) == (session.session_id, 1)


def test_after_a_failure_it_is_tried_again(
    client: httpx.Client, engine: Engine, monkeypatch: pytest.MonkeyPatch, problem: Problem
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise LogUnavailable("the disk is full")

    monkeypatch.setattr(engine, "create", full)
    assert problem(post(client, "one"))["status"] == 503
    monkeypatch.undo()
    assert post(client, "one").status_code == 201


def test_only_so_many_are_remembered_and_only_so_long() -> None:
    now_s = 0.0
    memory = Idempotency("a log", max_keys=2, clock=lambda: now_s)
    runs: list[str] = []

    async def run(session_id: str) -> Response:
        runs.append(session_id)
        return Response(b"{}")

    async def ask(*keys: str, caller: Caller = ANA) -> int:
        before = len(runs)
        for key in keys:
            await memory.once(caller, key, b"{}", run)
        return len(runs) - before

    assert asyncio.run(ask("a", "b", "a", "b")) == 2
    assert asyncio.run(ask("b", caller=Caller("bob", ANA.scopes))) == 1, "another caller's key is another key"
    assert len(memory) == 2
    assert asyncio.run(ask("b")) == 0
    assert asyncio.run(ask("a")) == 1, "the oldest was forgotten"
    now_s = REMEMBER_S + 1
    assert asyncio.run(ask("a")) == 1, "after a day it is another request"


def test_a_caller_that_disconnects_leaves_the_response_to_the_others() -> None:
    async def story() -> None:
        memory, go_on = Idempotency("a log"), asyncio.Event()

        async def run(_: str) -> Response:
            await go_on.wait()
            return Response(b"made")

        first = asyncio.ensure_future(memory.once(ANA, "one", b"{}", run))
        second = asyncio.ensure_future(memory.once(ANA, "one", b"{}", run))
        await asyncio.sleep(0)  # waits: for both to begin, one turn of the loop
        first.cancel()
        go_on.set()
        assert (await second).body == b"made"
        with pytest.raises(Refusal, match="another body"):
            await memory.once(ANA, "one", b"{...}", run)

    asyncio.run(story())

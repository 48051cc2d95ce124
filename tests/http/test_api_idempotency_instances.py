"""Retries that reach another instance of the service: one `Idempotency-Key` makes one session, at any instance."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served
from starlette.responses import Response

import lastseen
from lastseen import ANY, Engine
from lastseen.auth.caller import Caller
from lastseen.auth.tokens import Keyring, new_token
from lastseen.http.idempotency import Idempotency
from tests.patience import PATIENCE_S

Problem = Callable[[httpx.Response], dict[str, Any]]
KEY = "telegram:42"
Instance = tuple[Engine, httpx.Client]


@pytest.fixture
def instances(tmp_path: Path) -> Iterator[tuple[Instance, Instance]]:
    """Two services on one log, neither of which looks at it unless it has to."""
    url = f"sqlite:///{tmp_path / 'log.db'}"

    def opened(name: str) -> Engine:
        return lastseen.open_engine(url, snapshot=str(tmp_path / f"{name}.snapshot"), background=False)

    with ExitStack() as stack:
        one, two = (stack.enter_context(opened(name)) for name in "ab")
        here, there = (stack.enter_context(stack.enter_context(Served(each)).client()) for each in (one, two))
        yield (one, here), (two, there)


def post(client: httpx.Client, idempotency_key: str, if_exists: str = "refuse", **wanted: Any) -> httpx.Response:
    body = {"key": KEY, "if_exists": if_exists, **wanted}
    return client.post("/v1/sessions", json=body, headers={"Idempotency-Key": idempotency_key})


def sessions_of(engine: Engine) -> list[str]:
    """The ids of all sessions there ever were under the key."""
    engine.refresh()
    return [life.session_id for life in engine.session_spans(KEY)]


@pytest.mark.parametrize("if_exists", ["refuse", "open"])
@pytest.mark.parametrize("is_seen", [True, False])
def test_another_instance_gives_the_same_answer(
    instances: tuple[Instance, Instance], if_exists: str, is_seen: bool
) -> None:
    (_, here), (other, there) = instances
    first = post(here, "one", if_exists, attributes={"owner": "ana"})
    if is_seen:
        other.refresh()
    again = post(there, "one", if_exists, attributes={"owner": "ana"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert sessions_of(other) == [first.json()["session_id"]]
    repeated = post(there, "one", if_exists, attributes={"owner": "ana"})
    assert repeated.headers.get_list("idempotency-replayed") == ["true"]


def test_both_asked_at_once_make_one_session(instances: tuple[Instance, Instance]) -> None:
    (engine, here), (other, there) = instances
    for number in range(15):
        start = threading.Barrier(2)

        def ask(client: httpx.Client, name: str = f"request-{number}", start: threading.Barrier = start) -> Any:
            start.wait(PATIENCE_S)
            answer = post(client, name)
            return answer.status_code, answer.json()["session_id"]

        with ThreadPoolExecutor(2) as threads:
            first, second = threads.map(ask, (here, there))
        assert first == second
        assert first[0] == 201
        assert len(sessions_of(engine)) == number + 1
        engine.close(KEY)
        other.refresh()


@pytest.mark.parametrize("if_exists", ["refuse", "open"])
def test_what_has_ended_is_not_made_again(
    instances: tuple[Instance, Instance], problem: Problem, if_exists: str
) -> None:
    (engine, here), (other, there) = instances
    made = post(here, "one", if_exists).json()["session_id"]
    engine.close(KEY, reason="logout")
    refused = problem(post(there, "one", if_exists))
    assert (refused["status"], refused["ended"]["session_id"], refused["ended"]["reason"]) == (410, made, "logout")
    assert sessions_of(other) == [made]
    assert post(there, "two").status_code == 201, "with another key it is another request"


@pytest.mark.parametrize(
    "wrong", [{"attributes": {"owner": "bob"}}, {}, {"key": "telegram:43", "attributes": {"owner": "ana"}}]
)
def test_another_request_is_recognised(
    instances: tuple[Instance, Instance], problem: Problem, wrong: dict[str, Any]
) -> None:
    (_, here), (other, there) = instances
    post(here, "one", attributes={"owner": "ana"})
    other.refresh()
    assert problem(post(there, "one", **wrong))["type"] == "/problems/idempotency-key-reused"
    assert other.get("telegram:43") is None
    assert len(sessions_of(other)) == 1


def test_a_session_that_was_used_since_is_still_the_one_that_was_made(instances: tuple[Instance, Instance]) -> None:
    (engine, here), (_, there) = instances
    made = post(here, "one", attributes={"n": 1}).json()["session_id"]
    engine.update(KEY, {"n": 2})
    again = post(there, "one", attributes={"n": 1})
    assert (again.status_code, again.json()["session_id"], again.json()["version"]) == (201, made, 2)


def test_the_id_follows_from_the_token_the_key_and_the_log() -> None:
    token, other_token = (new_token(name, ["touch"], ANY, 0, None) for name in ("ana", "bob"))
    keyring = Keyring([token[1], other_token[1]])

    def caller(secret: str) -> Caller:
        found = keyring.find(secret.encode(), 0)
        assert found is not None
        return found

    def id_for(caller: Caller, key: str, log: str = "a log") -> str:
        given: list[str] = []

        async def run(session_id: str) -> Response:
            given.append(session_id)
            return Response(b"{}")

        asyncio.run(Idempotency(log).once(caller, key, b"{}", run))
        return given[0]

    ana, bob, anyone = caller(token[0]), caller(other_token[0]), Caller("anyone", frozenset())
    assert id_for(ana, "one") == id_for(ana, "one"), "whichever instance is asked"
    assert len(id_for(ana, "one")) == 22
    different = {id_for(ana, "one"), id_for(ana, "two"), id_for(bob, "one"), id_for(anyone, "one")}
    assert len(different | {id_for(anyone, "one", "another log")}) == 5
    assert str(token[1].sha256) not in repr(ana), "what the id is made of is not shown"


def test_a_message_that_is_sent_again_to_another_instance_is_stored_once(instances: tuple[Instance, Instance]) -> None:
    (engine, here), (other, there) = instances
    engine.open(KEY)
    other.refresh()
    for client in (here, there):
        touched = client.post(
            f"/v1/sessions/{KEY}/touch", json={"message": "hello"}, headers={"Idempotency-Key": "one"}
        )
        assert touched.status_code == 200
    assert [message.value for message in other.messages(KEY)] == ["hello"]


def test_a_rotation_that_is_sent_again_to_another_instance_happens_once(
    instances: tuple[Instance, Instance], problem: Problem
) -> None:
    (engine, here), (other, there) = instances
    engine.open(KEY)

    def rotate(client: httpx.Client) -> httpx.Response:
        return client.post(f"/v1/sessions/{KEY}/rotate", headers={"Idempotency-Key": "one"})

    first = rotate(here)
    other.refresh()
    again = rotate(there)
    assert again.json() == first.json()
    assert again.headers.get_list("idempotency-replayed") == ["true"]
    assert len(sessions_of(other)) == 2
    engine.rotate(KEY)
    other.refresh()
    assert rotate(there).json() == first.json(), "this instance remembers the response"
    assert len(sessions_of(other)) == 3

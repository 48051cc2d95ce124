"""Clients and the rest of the service: tokens, rates, several instances, many threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served

import lastseen
from lastseen import AsyncClient, Client, Engine, ServiceError
from lastseen.auth.token_file import TokenFile
from lastseen.engine.arguments import ANY, Anything
from lastseen.engine.errors import InvalidEvent
from lastseen.http.guard.guard import guard
from lastseen.http.guard.limits import Limits
from tests.patience import PATIENCE_S

KEY = "acme:1"


def guarded(folder: Path, scopes: list[str], prefix: str | Anything = ANY, **limits: Any) -> tuple[str, Any]:
    """A token, and the guard that knows it."""
    path = folder / "tokens.json"
    secret, _ = TokenFile(path).create("acme", scopes, prefix, 0)
    return secret, guard(host="127.0.0.1", token_file=str(path), limits=Limits(**limits), write=lambda line: None)


def test_a_token_opens_what_it_may(engine: Engine, tmp_path: Path) -> None:
    secret, guard_of_tokens = guarded(tmp_path, ["read", "touch"], "acme:")
    with Served(engine, guard=guard_of_tokens) as served:
        with Client(served.address, secret) as client:
            assert client.open(KEY).version == 1
            assert client.touch(KEY) is not None
            for refused in (lambda: client.close(KEY), lambda: client.open("other:1"), client.statistics):
                with pytest.raises(ServiceError) as error:
                    refused()
                assert (error.value.status, error.value.kind) == (403, "forbidden")
            with client.events("0") as events:
                assert next(events).key == KEY
        for token in (None, "lst_nonsense", secret[:-1]):
            with Client(served.address, token) as stranger, pytest.raises(ServiceError) as error:
                stranger.get(KEY)
            assert error.value.status == 401
            assert secret not in str(error.value)


def test_who_is_too_fast_is_slowed_down(engine: Engine, tmp_path: Path) -> None:
    secret, guard_of_tokens = guarded(tmp_path, ["touch"], requests_per_s=20, burst=3)
    with Served(engine, guard=guard_of_tokens) as served, Client(served.address, secret) as client:
        for n in range(6):
            client.open(f"acme:{n}")  # some of them are asked to wait, and do
    assert engine.count() == 6


def test_what_is_nested_too_deeply_is_refused_before_it_is_read(engine: Engine, tmp_path: Path) -> None:
    secret, guard_of_tokens = guarded(tmp_path, ["touch"])
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    with (
        Served(engine, guard=guard_of_tokens) as served,
        Client(served.address, secret) as client,
        pytest.raises(InvalidEvent),
    ):
        client.open(KEY, attributes={"deep": deep})


class Turns(httpx.BaseTransport):
    """Writes go to the first instance, reads to the second."""

    def __init__(self, writes_to: Served, reads_from: Served) -> None:
        self.writes_to, self.reads_from = writes_to, reads_from
        self.inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        to = self.reads_from if request.method == "GET" else self.writes_to
        request.url = request.url.copy_with(host="127.0.0.1", port=to.port)
        return self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


def test_a_client_reads_what_it_wrote_from_any_instance(engine: Engine, tmp_path: Path) -> None:
    other = lastseen.open_engine(f"sqlite:///{tmp_path / 'log.db'}", snapshot=":memory:")
    with (
        other,
        Served(engine) as first,
        Served(other) as second,
        Client("http://any", transport=Turns(first, second)) as client,
    ):
        for n in range(10):
            client.open(f"key-{n}")
            assert client.get(f"key-{n}") is not None
            written = client.touch(f"key-{n}")
            assert client.history(f"key-{n}")[-1].name == "touched"
            assert written is not None
            assert client.get(f"key-{n}") == written
            assert len(client.list(prefix=f"key-{n}").sessions) == 1


def test_many_threads_share_a_client(engine: Engine, served: Served) -> None:
    keys = [f"key-{n}" for n in range(12)]
    with Client(served.address, connections=4) as client, ThreadPoolExecutor(12) as threads:
        opened = list(threads.map(client.open, keys * 2))
        assert len({session.session_id for session in opened}) == 12
        list(threads.map(client.touch, keys * 3))
    assert {session.version for session in engine.list().sessions} == {4}


def test_so_do_many_coroutines(engine: Engine, served: Served) -> None:
    keys = [f"key-{n}" for n in range(12)]

    async def story() -> None:
        async with AsyncClient(served.address, connections=4) as client:
            await asyncio.gather(*(client.open(key) for key in keys * 2))
            await asyncio.gather(*(client.touch(key) for key in keys * 3))

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))
    assert {session.version for session in engine.list().sessions} == {4}

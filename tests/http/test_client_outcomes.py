"""The service acts and its answer is lost: what a client does then, on a real engine behind a real server."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from client_kinds import Waiting
from served import Served

import lastseen
from lastseen import AsyncClient, Client, Engine, ServiceError
from lastseen.engine.errors import LogUnavailable, OutcomeUnknown
from tests.patience import PATIENCE_S, paced_s

KEY = "telegram:42"


class Losing(httpx.BaseTransport):
    """Passes requests on, and loses responses: as many as it is given."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.to_lose = 0
        self.requests = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.inner.handle_request(request)
        self.requests += 1
        if self.to_lose:
            self.to_lose -= 1
            answer.read()
            raise httpx.ReadError("connection reset", request=request)
        return answer

    def close(self) -> None:
        self.inner.close()


class LosingAsync(httpx.AsyncBaseTransport):
    """The same for the twin."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()
        self.to_lose = 0
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.inner.handle_async_request(request)
        self.requests += 1
        if self.to_lose:
            self.to_lose -= 1
            await answer.aread()
            raise httpx.ReadError("connection reset", request=request)
        return answer

    async def aclose(self) -> None:
        await self.inner.aclose()


class Lossy:
    """A client, the transport that loses its answers, and the engine."""

    def __init__(self, client: Any, transport: Any, engine: Engine) -> None:
        self.client, self.transport, self.engine = client, transport, engine

    def losing(self, answers: int = 1) -> Any:
        """The client; the next answers are lost."""
        self.transport.to_lose = answers
        return self.client


@pytest.fixture(params=["client", "async client"])
def lossy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lossy]:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url, background=False) as engine, Served(engine) as served:
        if request.param == "client":
            waiting = Losing()
            with Client(served.address, transport=waiting) as client:
                yield Lossy(client, waiting, engine)
        else:
            transport = LosingAsync()
            made = Waiting(lambda: AsyncClient(served.address, transport=transport))
            try:
                yield Lossy(made, transport, engine)
            finally:
                made.end()


def test_a_session_is_created_once(lossy: Lossy) -> None:
    session = lossy.losing(2).create(KEY, attributes={"n": 1})
    assert session.session_id == lossy.engine.open(KEY).session_id
    assert len(lossy.engine.history(KEY)) == 1
    assert lossy.losing().open(KEY).session_id == session.session_id


def test_what_is_pinned_is_done_in_the_end(lossy: Lossy) -> None:
    session = lossy.client.open(KEY)
    pin = {"session_id": session.session_id}
    assert lossy.losing().suspend(KEY, **pin).status.value == "suspended"
    assert lossy.losing().resume(KEY, **pin).status.value == "active"
    assert lossy.losing().update(KEY, {"n": 1}, **pin).attributes == {"n": 1}
    assert lossy.losing().take_lease(KEY, "job", 60_000).holders.keys() == {"job"}
    assert lossy.losing().release(KEY, "job").holders == {}
    assert lossy.losing().touch(KEY).key == KEY
    assert [each.key for each in lossy.losing().touch_many([KEY])] == [KEY]
    assert lossy.losing().close(KEY, **pin) is None
    assert lossy.engine.get(KEY) is None
    applied = [entry.name for entry in lossy.engine.history(KEY) if entry.verdict == 0]
    assert [applied.count(name) for name in ("created", "suspended", "resumed", "released", "closed")] == [1] * 5


def test_what_is_not_pinned_is_done_once_and_unknown(lossy: Lossy) -> None:
    stories: list[Callable[[Any], Any]] = [
        lambda client: client.touch(KEY, message={"text": "hello"}),
        lambda client: client.update(KEY, {"n": 1}),
        lambda client: client.suspend(KEY),
        lambda client: client.resume(KEY),
        lambda client: client.rotate(KEY),
        lambda client: client.close(KEY),
    ]
    lossy.client.open(KEY)
    for n, story in enumerate(stories, start=1):
        with pytest.raises(OutcomeUnknown, match="pin the call"):
            story(lossy.losing())
        assert len(lossy.engine.history(KEY)) == n + 1


def test_a_rotation_whose_outcome_is_unknown_says_so(lossy: Lossy) -> None:
    session = lossy.client.open(KEY)
    with pytest.raises(OutcomeUnknown):
        lossy.losing().rotate(KEY, session_id=session.session_id)
    assert len(lossy.engine.session_spans(KEY)) == 2


def test_reads_do_not_mind(lossy: Lossy) -> None:
    lossy.client.open(KEY)
    assert lossy.losing(2).get(KEY).key == KEY
    assert lossy.losing().list().sessions[0].key == KEY
    assert lossy.losing().explain(KEY).status == "active"


# ── connections that misbehave ──


class Rude:
    """A server with a given reaction to each connection."""

    def __init__(self, *manners: Callable[[socket.socket], None]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._manners = list(manners)
        self._thread = threading.Thread(target=self._serve, name="lastseen-test-rude", daemon=True)
        self.served = 0

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                manner = self._manners.pop(0) if len(self._manners) > 1 else self._manners[0]
                self.served += 1
                try:
                    manner(connection)
                except OSError:
                    continue

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(PATIENCE_S)


def heard(connection: socket.socket) -> None:
    """Read a request's head."""
    connection.settimeout(PATIENCE_S)
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(65_536) or b"\r\n\r\n"


def saying(text: bytes) -> Callable[[socket.socket], None]:
    """Hear a request, say this, and hang up."""

    def manner(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(text)

    return manner


def dripping(connection: socket.socket) -> None:
    """Say a little at a time, without end."""
    heard(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)  # waits: a slow service is under test


def silent(connection: socket.socket) -> None:
    """Hear a request, and say nothing until the client hangs up."""
    heard(connection)
    connection.recv(1)


GOOD = json.dumps({"live": 1}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD)
HALF = ANSWER[:-4]
NO_HTTP = b"220 mail.example ESMTP\r\n"
ENDLESS_HEAD = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000


@contextmanager
def client_of(kind: str, address: str, **options: Any) -> Iterator[Any]:
    """Either client."""
    if kind == "client":
        with Client(address, **options) as client:
            yield client
    else:
        waiting = Waiting(lambda: AsyncClient(address, **options))
        try:
            yield waiting
        finally:
            waiting.end()


@pytest.mark.parametrize("kind", ["client", "async client"])
@pytest.mark.parametrize("manner", [saying(b""), saying(HALF), saying(NO_HTTP), saying(ENDLESS_HEAD)])
def test_a_connection_that_breaks_is_tried_again(kind: str, manner: Callable[[socket.socket], None]) -> None:
    with Rude(manner, manner, saying(ANSWER)) as rude, client_of(kind, rude.address) as client:
        assert client.statistics() == {"live": 1}
        assert rude.served == 3
    with Rude(manner) as rude, client_of(kind, rude.address) as client:
        with pytest.raises(OutcomeUnknown):
            client.rotate(KEY)
        assert rude.served == 1


@pytest.mark.parametrize("kind", ["client", "async client"])
@pytest.mark.parametrize("manner", [silent, dripping])
def test_an_answer_that_never_ends_is_not_waited_for(kind: str, manner: Callable[[socket.socket], None]) -> None:
    with Rude(manner) as rude, client_of(kind, rude.address, timeout=0.4) as client:
        began_s = paced_s()
        with pytest.raises(LogUnavailable):
            client.statistics()
        with pytest.raises(OutcomeUnknown):
            client.close(KEY)
        assert paced_s() - began_s < 10


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_there_is_no_service(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    with client_of(kind, address, timeout=0.3) as client, pytest.raises(LogUnavailable, match=address):
        client.rotate(KEY)


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_an_answer_without_end_is_cut_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("client", "async_client"):
        monkeypatch.setattr(f"lastseen.client.{module}.MAX_RESPONSE_BYTES", 100)
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
    with Rude(saying(big)) as rude, client_of(kind, rude.address, timeout=0.5) as client:
        with pytest.raises(OutcomeUnknown):
            client.touch(KEY)
        assert rude.served > 1


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_a_redirection_is_not_followed(kind: str) -> None:
    elsewhere = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with Rude(saying(elsewhere)) as rude, client_of(kind, rude.address) as client:
        with pytest.raises(ServiceError) as refused:
            client.rotate(KEY)
        assert refused.value.status == 307
        assert rude.served == 1


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_who_gets_no_turn_has_done_nothing(kind: str) -> None:
    with Rude(silent) as rude, client_of(kind, rude.address, timeout=0.2, connections=1) as client:
        # As if another call were under way all the time.
        if kind == "client":
            assert client._slots.acquire()
        else:
            assert client._wait(client._twin._slots.acquire())
        with pytest.raises(LogUnavailable, match="1 calls were in progress"):
            client.rotate(KEY)
        assert rude.served == 0
        if kind == "client":
            client._slots.release()
        else:
            client._twin._slots.release()
        for _ in range(3):  # a turn is given back, whatever became of the call
            with pytest.raises(OutcomeUnknown):
                client.rotate(KEY)
        assert rude.served == 3

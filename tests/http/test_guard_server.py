"""The guard behind a real server: heads that never end, callers that stall, and connections that go on afterwards."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvicorn

from lastseen.http.guard.guard import Guard
from lastseen.http.guard.head_limits import bounded_protocol
from lastseen.http.guard.limits import Limits
from tests.patience import PATIENCE_S, eventually

PATIENT = Limits(max_head_bytes=4_000, max_head_fields=20, max_body_bytes=5_000)
HASTY = replace(PATIENT, head_s=0.2, upload_s=0.2)
"""For callers that stall: a machine that is busy may stall for as long, so nothing else is tested with it."""
SHORT = replace(PATIENT, request_s=0.4)


class Slow:
    """An application that is as slow as the query asks for, and fails if it asks for that."""

    def __init__(self) -> None:
        self.done = threading.Semaphore(0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        size = len((await receive())["body"])
        if b"slow" in scope["query_string"]:
            await asyncio.sleep(0.8)  # waits: longer than a request may take, which is what is tested
            self.done.release()
        if b"fail" in scope["query_string"]:
            raise RuntimeError("late")
        body = b"%d" % size
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(app: Any, limits: Limits) -> Iterator[int]:
    """Serve an application on a free port, behind the guard."""
    listening = socket.create_server(("127.0.0.1", 0))
    guarded = Guard(app, limits=limits, write=dict)
    config = uvicorn.Config(guarded, http=bounded_protocol(limits), log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), name="lastseen-test-guard")
    thread.start()
    eventually(lambda: server.started, "the server starts", every_s=0.005)
    try:
        yield int(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture
def app() -> Slow:
    return Slow()


@pytest.fixture
def limits() -> Limits:
    """Those of most tests."""
    return PATIENT


@pytest.fixture
def wire(app: Slow, limits: Limits) -> Iterator[socket.socket]:
    """A connection to the guarded application."""
    with serving(app, limits) as port, socket.create_connection(("127.0.0.1", port)) as made:
        made.settimeout(PATIENCE_S)
        yield made


def head(target: str = "/", *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]).encode()


def answered(wire: socket.socket) -> tuple[int, bytes]:
    """The next answer: its status and body."""
    with wire.makefile("rb", buffering=0) as lines:
        status = int(lines.readline().split()[1])
        length = 0
        while (line := lines.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = b""
        while len(body) < length:
            got = lines.read(length - len(body))
            assert got
            body += got
        return status, body


def is_hung_up(wire: socket.socket) -> bool:
    """Whether the server has closed the connection, or does within the patience of the socket."""
    try:
        return wire.recv(1) == b""
    except ConnectionResetError:
        return True


def flood(wire: socket.socket, piece: bytes, most: int) -> int:
    """Send the same piece over and over until the server hangs up; returns how many bytes it took."""
    sent = 0
    try:
        while sent < most:
            wire.sendall(piece)
            sent += len(piece)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return sent


def test_ordinary_requests_pass_one_after_the_other(wire: socket.socket) -> None:
    for size in (0, 1, 5_000):
        wire.sendall(head("/", f"Content-Length: {size}", method="POST") + b"x" * size)
        assert answered(wire) == (200, b"%d" % size)
    wire.sendall(head("/", "Transfer-Encoding: chunked", method="POST"))
    for _ in range(4):
        wire.sendall(b"3e8\r\n" + b"y" * 1000 + b"\r\n")
    wire.sendall(b"0\r\n\r\n" + head())
    assert answered(wire) == (200, b"4000")
    assert answered(wire) == (200, b"0")


@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nX-A: ", b"GET / HTTP/1.1\r\nHost: "])
def test_a_line_that_never_ends_is_cut_off(wire: socket.socket, begin: bytes) -> None:
    wire.sendall(begin)
    assert flood(wire, b"a" * 1_000, 50_000_000) < 20_000_000, "what the kernel's buffers take, and no more"


def test_a_head_that_is_a_little_too_large_gets_a_response(wire: socket.socket) -> None:
    wire.sendall(head("/", "X-A: " + "a" * 4_500))
    status, body = answered(wire)
    assert (status, json.loads(body)["type"]) == (431, "/problems/head-too-large")
    wire.sendall(head())
    assert answered(wire)[0] == 200, "the connection goes on"


def test_a_head_that_is_far_too_large_ends_the_connection(wire: socket.socket) -> None:
    wire.sendall(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 14_000)
    status, body = answered(wire)
    assert (status, json.loads(body)["type"]) == (431, "/problems/head-too-large")
    assert is_hung_up(wire)


@pytest.mark.parametrize("where", ["head", "trailer"])
def test_fields_without_end_end_the_connection(wire: socket.socket, where: str) -> None:
    if where == "trailer":
        wire.sendall(head("/", "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n0\r\n")
    else:
        wire.sendall(b"GET / HTTP/1.1\r\n")
    assert flood(wire, b"A: b\r\n" * 100, 50_000_000) < 20_000_000


@pytest.mark.parametrize("limits", [HASTY])
@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_a_head_that_stalls_is_given_up(wire: socket.socket, sent: bytes) -> None:
    wire.sendall(sent)
    status, body = answered(wire)
    assert (status, json.loads(body)["type"]) == (408, "/problems/head-too-slow")
    assert is_hung_up(wire)


@pytest.mark.parametrize("limits", [HASTY])
def test_a_head_that_stalls_on_a_used_connection_is_given_up_too(wire: socket.socket) -> None:
    wire.sendall(head())
    assert answered(wire)[0] == 200
    wire.sendall(b"GET / HT")
    assert answered(wire)[0] == 408
    assert is_hung_up(wire)


@pytest.mark.parametrize("limits", [HASTY])
def test_a_body_that_stalls_is_given_up(wire: socket.socket) -> None:
    wire.sendall(head("/", "Content-Length: 10", method="POST") + b"x")
    status, body = answered(wire)
    assert (status, json.loads(body)["type"]) == (408, "/problems/upload-too-slow")
    assert is_hung_up(wire)


@pytest.mark.parametrize("limits", [SHORT])
@pytest.mark.parametrize(("query", "ending"), [("slow", "well"), ("slow-fail", "badly")])
def test_a_connection_outlives_a_request_that_took_too_long(
    wire: socket.socket, app: Slow, query: str, ending: str
) -> None:
    wire.sendall(head(f"/?{query}", "Content-Length: 0", method="POST"))
    status, body = answered(wire)
    assert (status, json.loads(body)["error"]) == (504, "OutcomeUnknown")
    wire.sendall(head())
    assert answered(wire)[0] == 200, "while the first is worked on still"
    assert app.done.acquire(timeout=PATIENCE_S)
    wire.sendall(head())
    assert answered(wire)[0] == 200, f"after it has ended {ending}"

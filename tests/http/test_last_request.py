"""The last request of a connection, when the service stops: one that had arrived is read before it closes."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from lastseen.http.guard import head_limits
from lastseen.http.guard.head_limits import bounded_protocol
from lastseen.http.guard.limits import Limits
from tests.patience import PATIENCE_S

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def no_content(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Busy(asyncio.Protocol):
    """Keeps the event loop from the moment when it would close the idle connection until after that; meanwhile the
    connection's caller sends a request."""

    def __init__(self, caller: socket.socket) -> None:
        self._caller = caller

    def data_received(self, _: bytes) -> None:
        self._caller.sendall(REQUEST)
        time.sleep(5 * head_limits.LAST_REQUEST_S)  # waits: the loop is to be busy until its timer is due


def answer(caller: socket.socket) -> bytes:
    try:
        return caller.recv(1_000)
    except ConnectionResetError:
        return b"reset"


def test_a_request_that_came_while_the_loop_was_busy_is_read_before_its_connection_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head_limits, "LAST_REQUEST_S", 0.01)
    config = uvicorn.Config(no_content, log_config=None, access_log=False, lifespan="off")
    config.load()
    state = ServerState()
    caller, served = socket.socketpair()
    worker, working = socket.socketpair()
    caller.settimeout(PATIENCE_S)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.connect_accepted_socket(
            lambda: bounded_protocol(Limits())(config=config, server_state=state, app_state={}), served
        )
        busy, _ = await loop.connect_accepted_socket(lambda: Busy(caller), working)
        worker.sendall(b"work")
        protocol.shutdown()
        async with asyncio.timeout(PATIENCE_S):
            while state.connections:
                await asyncio.sleep(0.001)  # waits: for the connection to end
        busy.close()

    with caller, worker, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
        assert answer(caller).startswith(b"HTTP/1.1 204")

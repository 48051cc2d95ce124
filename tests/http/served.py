"""An application behind a real server, in a thread of the test."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, Self

import httpx
import uvicorn
import uvloop

from lastseen import Engine
from lastseen.http.application import build, worker_threads_of
from tests.patience import PATIENCE_S, eventually


class Served:
    """A server on a free port of the loopback; a context manager."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.app = build(engine, **options)
        # Without the protocol's number asyncio does not switch Nagle's algorithm off: 40 ms an answer.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self.app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="lastseen-test-server")

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        await self._server.serve(sockets=[self._socket])
        await worker_threads_of(self.app).close()

    def client(self, **options: Any) -> httpx.Client:
        """A client of the server."""
        return httpx.Client(**{"base_url": self.address, "timeout": PATIENCE_S, **options})

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self._server.started, "the server starts", every_s=0.002)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End streams, finish what is under way, stop."""
        if self._thread.is_alive():
            worker_threads_of(self.app).stop_streams()
            self._server.should_exit = True
            self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

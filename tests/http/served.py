"""An application behind a real server, in a thread of the test."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any, Self

import httpx
import uvicorn

from lastseen import Engine
from lastseen.http.application import build, door_of

PATIENCE_S = 20


class Served:
    """A server on a free port of the loopback; a context manager."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.app = build(engine, **options)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self.app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="lastseen-test-server")

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        await self._server.serve(sockets=[self._socket])
        await door_of(self.app).close()

    def client(self, **options: Any) -> httpx.Client:
        """A client of the server."""
        return httpx.Client(**{"base_url": self.address, "timeout": PATIENCE_S, **options})

    def __enter__(self) -> Self:
        self._thread.start()
        give_up_at = time.monotonic() + PATIENCE_S
        while not self._server.started:
            assert time.monotonic() < give_up_at, "the server does not start"
            time.sleep(0.005)  # waits: for the server's socket, polled with a deadline
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End streams, finish what is under way, stop."""
        if self._thread.is_alive():
            loop_closer = door_of(self.app)
            self._server.should_exit = True
            loop_closer.stop_streams()
            self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

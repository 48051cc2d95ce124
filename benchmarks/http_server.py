"""A server for the HTTP figures: the service's own application, and in it one route that does nothing.

`python -m benchmarks.http_server FOLDER` says its port on stdout and answers until stdin ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading

import uvicorn
import uvloop

import lastseen
from benchmarks.workload import fill
from lastseen.configuration.configuration import configure
from lastseen.engine.session import Policy
from lastseen.http.application import worker_threads_of
from lastseen.http.guard.head_limits import bounded_protocol
from lastseen.service.server import application, guard_of, limits_of
from lastseen.service.signals import StopSignals

SESSIONS = 10_000
EMPTY = "/v1/empty"


def main() -> None:
    """Serve until stdin ends."""
    settings = configure({}, [], environment={}).service
    with lastseen.open_engine(f"sqlite:///{sys.argv[1]}/http.db", freeze=True) as engine:
        stop = StopSignals()
        fill(engine._log, SESSIONS, engine._clock.now_ms(), Policy(idle_ttl_ms=86_400_000))
        engine.refresh()
        app = application(engine, guard_of(settings), stop)

        @app.post(EMPTY)
        async def nothing() -> dict[str, str]:
            return {}

        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        protocol = bounded_protocol(limits_of(settings))
        server = uvicorn.Server(uvicorn.Config(app, http=protocol, ws="none", log_config=None, access_log=False))

        def wait_for_the_end() -> None:
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=wait_for_the_end, daemon=True).start()

        async def serve() -> None:
            sys.stdout.write(f"{listening.getsockname()[1]}\n")
            sys.stdout.flush()
            with contextlib.suppress(asyncio.CancelledError):
                await server.serve(sockets=[listening])
            await worker_threads_of(app).close()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())


if __name__ == "__main__":
    main()

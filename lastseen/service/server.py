"""The service's HTTP server: uvicorn in this process, ended by the service's own signals."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import uvicorn
from fastapi import FastAPI

from lastseen.configuration.service_settings import ServiceSettings
from lastseen.embedded.engine import Engine
from lastseen.embedded.settings import duration_ms
from lastseen.http.application import Guard, build, worker_threads_of
from lastseen.http.guard.guard import OPEN_PATHS, guard
from lastseen.http.guard.head_limits import BoundedProtocol, bounded_protocol
from lastseen.http.guard.limits import MAX_STREAMS, Limits
from lastseen.http.routes import health, metrics
from lastseen.http.routes.metrics import RequestMetrics
from lastseen.monitoring import tracing
from lastseen.service.signals import StopSignals
from lastseen.service.tls import LOOK_INTERVAL_S, CertificateExpiry, RenewableCertificate

_logger = logging.getLogger("lastseen.service")
_access = logging.getLogger("lastseen.access")
IDLE_CONNECTION_S = 75
"""How long a connection may stay open between two requests: longer than a load balancer keeps it."""
OWN_FILES, MOST_CONNECTIONS = 128, 65_536
"""Open files that are left for the log, the snapshot and the like; and the most connections whatever is allowed."""
POLL_INTERVAL_S = 0.05
LAST_ANSWERS_S = 0.5
"""For how long after the signal requests are still accepted, each on a connection that its response closes. A
connection that is closed while its next request is coming is reset, and the caller cannot know what became of it."""
UNREAD_STREAM_S = 2.0
"""How long after the last request a stream may take to end. Beyond that its caller does not read: it is cut off, and
goes on at another service from the last event that it has received."""
TLS_END_S = 2.0
"""How long the end of a TLS connection waits for the caller's own; more would keep the sockets of silent callers."""
STARTUP_FAILED = 3
LIFESPAN_SHUTDOWN_S = 2.0
"""How long the application may take to end after the last request."""


def run_server(
    app: FastAPI,
    settings: ServiceSettings,
    listening: socket.socket,
    stop: StopSignals,
    ready: Callable[[], None],
    signalled: Callable[[], None],
    stopping: Callable[[], None],
) -> None:
    """Serve requests on a socket until the signal to stop, and finish those in flight.

    `ready` is called when requests are answered, `signalled` right after the signal to stop, and `stopping` when no
    more requests are taken.
    """
    server = _Server(app, settings, ready, signalled, stopping)
    stop.on_signal(server.notify)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listening]))


def application(
    engine: Engine,
    guard: Guard,
    stop: StopSignals,
    *,
    strict_readiness: bool = False,
    max_streams: int = MAX_STREAMS,
) -> FastAPI:
    """The API of an engine, with what those who run it ask for: health, metrics, and traces where they are set up."""
    requests = RequestMetrics()
    readiness = health.Readiness(engine, lambda: stop.count > 0, strict_readiness)
    operations = [
        health.router(engine, readiness=readiness),
        metrics.router(engine, requests, health.ReadinessMetrics(readiness), expiry := CertificateExpiry()),
    ]
    outermost = requests.with_metrics(guard)
    if tracing.is_on():
        from lastseen.http.tracing import traced

        tracing.trace_commands(engine)
        outermost = traced(outermost)
    app = build(engine, guard=outermost, operations=operations, max_streams=max_streams)
    app.state.certificate_expiry = expiry
    return app


def guard_of(settings: ServiceSettings) -> Guard:
    """What stands before the routes. Raises `InvalidSetting` if the service would be open without tokens, or the token
    file is invalid."""
    return guard(
        host=settings.host,
        token_file=settings.token_file,
        hosts=settings.allowed_hosts,
        origins=settings.allowed_origins,
        limits=limits_of(settings),
        open_paths=OPEN_PATHS | {"/metrics"} if settings.open_metrics else OPEN_PATHS,
        write=_log_request if settings.access_log else _discard,
    )


def limits_of(settings: ServiceSettings) -> Limits:
    """The bounds of what callers may ask for."""
    return Limits(
        max_body_bytes=settings.max_request_bytes,
        max_waiting_body_bytes=max(settings.max_request_bytes, Limits().max_waiting_body_bytes),
        max_connections=connections_allowed(),
        request_s=duration_ms("request_timeout", settings.request_timeout) / 1000,
        max_requests=settings.max_requests,
        max_streams=settings.max_streams,
        requests_per_s=settings.requests_per_s,
        burst=settings.burst,
    )


def connections_allowed() -> int:
    """How many connections the files that this process may open allow, with some left for the engine's own."""
    if sys.platform == "win32":
        return Limits().max_connections
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else soft - OWN_FILES
    return min(max(most, OWN_FILES // 2), MOST_CONNECTIONS)


def _log_request(line: Mapping[str, Any]) -> None:
    _access.info("request", extra=dict(line))


def _discard(_: Mapping[str, Any]) -> None:
    """Requests are counted by the metrics; a line for each would cost more than the request."""


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to the service, and ends streams when it stops."""

    def __init__(
        self,
        app: FastAPI,
        settings: ServiceSettings,
        ready: Callable[[], None],
        signalled: Callable[[], None],
        stopping: Callable[[], None],
    ) -> None:
        limits = limits_of(settings)
        self._protocol = bounded_protocol(limits)
        self._settings, self._handshake_s = settings, limits.head_s
        self._certificate: RenewableCertificate | None = None
        self._looked_s = time.monotonic()
        super().__init__(
            uvicorn.Config(
                app, http=self._protocol, ws="none", lifespan="on", log_config=None, access_log=False,
                server_header=False, proxy_headers=False, timeout_keep_alive=IDLE_CONNECTION_S,
                ssl_certfile=settings.tls_cert_file, ssl_keyfile=settings.tls_key_file,
            )
        )  # fmt: skip
        self._app = app
        drain = settings.drain_time
        drain_s = 0.0 if drain is None else duration_ms("drain_time", drain) / 1000
        self._drain_s = max(drain_s, LAST_ANSWERS_S)
        self._timeout_s = duration_ms("shutdown_timeout", settings.shutdown_timeout) / 1000
        self._signals, self._signalled_s = 0, 0.0
        self._has_said_so = False
        self._last_connections: list[asyncio.Task[Any]] = []
        self._ready, self._signalled, self._stopping = ready, signalled, stopping

    def notify(self, count: int) -> None:
        """Record the `count`-th signal to stop. Called in a signal handler: sets flags only."""
        self._signals, self._signalled_s = count, self._signalled_s or time.monotonic()
        self.force_exit = count > 1

    async def on_tick(self, counter: int) -> bool:
        """Whether to accept no more requests. After a signal the service still answers for a while."""
        if self._signals and not self._has_said_so:
            self._has_said_so = self._protocol.is_stopping = True
            self._signalled()
        if self._signals and (self.force_exit or time.monotonic() >= self._signalled_s + self._drain_s):
            self.should_exit = True
        if self._certificate is not None and time.monotonic() >= self._looked_s + LOOK_INTERVAL_S:
            self._looked_s = time.monotonic()
            self._certificate.look()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again at the end, and the exit code would say so."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so: as uvicorn does, but with bounds on how long TLS takes to begin and to end."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILED)
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(self._make_protocol, sock=each, backlog=self.config.backlog, **self._tls())
            for each in sockets or ()
        ]
        if self.config.ssl is not None:
            self._certificate = RenewableCertificate(
                self._settings, self.config.ssl, self._app.state.certificate_expiry
            )
        self.started = True
        self._ready()

    def _tls(self) -> dict[str, Any]:
        if self.config.ssl is None:
            return {}
        return {
            "ssl": self.config.ssl, "ssl_handshake_timeout": self._handshake_s, "ssl_shutdown_timeout": TLS_END_S,
        }  # fmt: skip

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more requests, end the streams, and wait for requests in flight, up to the deadline."""
        self._stopping()
        _logger.info("stopping", extra={"connections": len(self.server_state.connections)})
        waiting = asyncio.get_running_loop().create_task(self._abort_connections())
        for listening in sockets or ():
            self._accept_waiting(listening)
        # It runs once no connection is accepted any more: uvicorn stops listening before it first waits.
        asyncio.get_running_loop().call_soon(worker_threads_of(self._app).stop_streams)
        await super().shutdown(sockets)
        waiting.cancel()
        if self.force_exit:  # uvicorn has skipped this
            with suppress(TimeoutError):
                await asyncio.wait_for(self.lifespan.shutdown(), LIFESPAN_SHUTDOWN_S)

    def _accept_waiting(self, listening: socket.socket) -> None:
        """Take the connections that the system has accepted: it resets those that wait when the socket closes."""
        loop = asyncio.get_running_loop()
        with suppress(BlockingIOError):
            while True:
                connection, _ = listening.accept()
                connection.setblocking(False)
                self._last_connections.append(
                    loop.create_task(loop.connect_accepted_socket(self._make_protocol, connection, **self._tls()))
                )

    def _make_protocol(self) -> asyncio.Protocol:
        return self._protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _abort_connections(self) -> None:
        """Abort the remaining connections at the deadline, or after the second signal; before, streams left unread."""
        began_s = time.monotonic()
        while not self.force_exit and time.monotonic() < began_s + self._timeout_s:
            await asyncio.sleep(POLL_INTERVAL_S)
            if time.monotonic() >= began_s + UNREAD_STREAM_S:
                self._abort_unread_streams()
        self.force_exit = True
        connections = list(self.server_state.connections)
        if connections:
            _logger.warning("closed callers' connections", extra={"connections": len(connections)})
            # uvicorn would log each aborted request as an error of the application, with a traceback.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        for connection in connections:
            connection.transport.abort()

    def _abort_unread_streams(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol) and connection.is_unread_stream():
                _logger.warning("closed a stream whose caller does not read")
                connection.transport.abort()

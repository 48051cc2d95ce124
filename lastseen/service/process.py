"""The service: one engine, and what this process does with it, from the start to an end that loses nothing.

It begins with what can go wrong at once (tokens, address), opens the engine, which reads the log as far as it goes, and
only then takes callers. At its end the partitions are handed over first of all; then no more callers are taken, those
in flight get their answers, streams end, and the snapshot is flushed. What was acknowledged is in the log already, so
that none of this can lose it; a second signal to stop only cuts the waiting short, and so does an unavailable log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

from lastseen.configuration.configuration import Configuration
from lastseen.embedded.engine import Engine
from lastseen.embedded.opening import open_engine
from lastseen.embedded.settings import IN_MEMORY_NAMES, duration_ms
from lastseen.engine.errors import InvalidSetting
from lastseen.service.exit_deadline import ExitDeadline
from lastseen.service.listening import address_of, bound_socket, listen
from lastseen.service.signals import Stopped, StopSignals
from lastseen.service.statistics_log import statistics_logged
from lastseen.service.tls import check_tls

_logger = logging.getLogger("lastseen.service")
POLL_INTERVAL_S = 0.1
"""How often a process that does not listen checks for a signal to stop."""


Companion = Callable[[Engine], AbstractContextManager[object]]
"""Something that runs beside the service while it stands, and is left before the engine shuts down."""


def serve(
    configuration: Configuration,
    *,
    ready: Callable[[str | None], None] = lambda _: None,
    companions: Sequence[Companion] = (),
) -> None:
    """Run the service until SIGTERM, SIGINT or SIGHUP. In the main thread only.

    `ready` receives the address once requests are accepted (`http://127.0.0.1:8321`; `None` if it does not listen).
    Raises `CannotListen`, `InvalidSetting`, and what `open_engine` raises.
    """
    settings = configuration.service
    stop = StopSignals()
    with stop.watched(), ExitStack() as end, ExitStack() as stack:
        bound = None
        if "api" in settings.roles:
            from lastseen.service.server import application, guard_of, run_server

            guard = guard_of(settings)
            scheme = "https" if check_tls(settings) else "http"
            bound = bound_socket(settings.host, settings.port)
            stack.callback(bound.close)
        try:
            with stop.starting():
                engine = stack.enter_context(_opened(configuration))
        except Stopped:
            _logger.info("stopped while starting")
            return
        if settings.token_file is not None:
            from lastseen.auth.token_file import TokenFile

            engine.register_prefixes({token.prefix for token in TokenFile(settings.token_file).read()})
        timeout_s = duration_ms("shutdown_timeout", settings.shutdown_timeout) / 1000
        exit_deadline = ExitDeadline(stop, 2 * timeout_s)  # for the callers, and as long again for the engine
        end.callback(exit_deadline.cancel)
        stack.callback(_logger.info, "no more callers; the engine is shutting down")
        every = settings.statistics_interval
        every_s = None if every is None else duration_ms("statistics_interval", every) / 1000
        stack.enter_context(statistics_logged(engine, every_s))
        for companion in companions:
            stack.enter_context(companion(engine))
        if bound is None:
            ready(None)
            _logger.info("started", extra={"roles": settings.roles})
            while not stop.count:
                time.sleep(POLL_INTERVAL_S)
            engine.leave_group()
            exit_deadline.start()
        else:
            listen(bound)
            address = address_of(bound, settings.host, scheme)

            def notify() -> None:
                _logger.info("listening", extra={"address": address, "roles": settings.roles})
                ready(address)

            app = application(
                engine, guard, stop, strict_readiness=settings.strict_readiness, max_streams=settings.max_streams
            )
            run_server(app, settings, bound, stop, notify, engine.leave_group, exit_deadline.start)
    _logger.info("stopped")


def _opened(configuration: Configuration) -> Engine:
    settings = configuration.service
    began_s = time.monotonic()
    _warn(configuration)
    engine = open_engine(settings.log, **configuration.engine)
    held = {"sessions": engine.count(), "seconds": round(time.monotonic() - began_s, 3)}
    _logger.info("the log is read", extra=held)
    return engine


def _warn(configuration: Configuration) -> None:
    """Say what is allowed, and may not be what was meant."""
    settings, log = configuration.service, configuration.service.log
    if log.startswith("memory:"):
        _logger.warning("the log is in memory: all is lost when this process ends")
    elif log.startswith("kafka:") and configuration.engine["snapshot"] in IN_MEMORY_NAMES:
        _logger.warning(
            "snapshot and history are in memory: each start reads the whole log, and the history keeps its newest %s"
            " bytes; name a file with --snapshot",
            configuration.engine["max_history_bytes"],
        )
    if "api" in settings.roles and settings.tls_cert_file is None and settings.token_file is not None:
        from lastseen.http.guard.origins import is_loopback

        if not is_loopback(settings.host):
            _logger.warning("no TLS: tokens are readable on the network, unless a proxy before the service adds it")
    if configuration.value("view") == "owned" and configuration.value("address") is None and "api" in settings.roles:
        _logger.warning(
            "view = owned without an address: responses do not name the owner of sessions in other partitions"
        )


def check_serving() -> None:
    """Raise `InvalidSetting` where the libraries of the service are not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn", "httptools") if find_spec(name) is None]
    if missing:
        raise InvalidSetting(f"the service needs {', '.join(missing)}: install lastseen[service]")

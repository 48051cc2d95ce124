"""`/livez` and `/readyz`: whether the process answers, and whether this instance is ready for requests.

The log may take long to answer, or never: it is asked in a thread that nothing else uses, one question at a time, and
a probe waits for the answer only so long. Probes that come together share an answer. A service asks by itself too, so
that its metrics say what the probes would, without any caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.to_thread
from fastapi import APIRouter
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from lastseen.embedded.engine import Engine
from lastseen.http.guard.guard import IS_UNKNOWN_HOST
from lastseen.http.head_method import GET, HEAD
from lastseen.monitoring.metrics import gauge, gauges
from lastseen.monitoring.readiness import CHECKS, Check, checks

_logger = logging.getLogger("lastseen")

WATCH_INTERVAL_S = 5.0
"""How often a service asks by itself."""
PATIENCE_S = 2.0
"""How long a probe waits for the checks."""
_NO_STORE = {"Cache-Control": "no-store"}
_SLOW = Check("log", False, f"no response within {PATIENCE_S:g} s: check that this machine can reach the log")
_FAILED = Check("fold", False, "the checks failed unexpectedly: the service's log describes it")


class Readiness:
    """Asks whether an engine is ready, for many probes at a time."""

    def __init__(self, engine: Engine, is_leaving: Callable[[], bool], is_strict: bool) -> None:
        self._engine = engine
        self._is_leaving = is_leaving
        self._is_strict = is_strict
        self._checking: asyncio.Task[list[Check]] | None = None
        self._thread: anyio.CapacityLimiter | None = None
        self.newest: list[Check] = []
        """What was found last; empty before the first time."""

    async def found(self, patience_s: float = PATIENCE_S) -> list[Check]:
        """What the checks say; that they take too long, if so."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._ask())
        try:
            # Shielded: the next probe may get the answer that this one does not wait for.
            self.newest = await asyncio.wait_for(asyncio.shield(self._checking), patience_s)
        except TimeoutError:
            self.newest = [_SLOW]
        return self.newest

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Ask at intervals while the context lasts."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        while True:
            try:
                await self.found()
            except Exception:
                _logger.exception("readiness cannot be found out")
                self.newest = [_FAILED]
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def _ask(self) -> list[Check]:
        if self._thread is None:
            self._thread = anyio.CapacityLimiter(1)
        # What hangs must not hang the end of the program: such a thread is left alone.
        return await anyio.to_thread.run_sync(
            lambda: list(checks(self._engine, self._is_leaving, is_strict=self._is_strict)),
            abandon_on_cancel=True, limiter=self._thread,
        )  # fmt: skip


class ReadinessMetrics(Collector):
    """What was found last, as figures: a scrape asks nothing."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        newest = self._readiness.newest
        ready = int(bool(newest) and is_ready(newest))
        yield gauge("ready", "1 while this instance is ready for requests, as GET /readyz says", ready)
        failing = {check.name: int(not check.ok) for check in newest}
        yield gauges("readiness_failing", "1 while this check of GET /readyz?verbose fails", "check", failing, CHECKS)


def is_ready(found: list[Check]) -> bool:
    """Whether nothing that is needed has failed."""
    return all(check.ok for check in found if check.is_needed)


def router(
    engine: Engine,
    is_leaving: Callable[[], bool] = lambda: False,
    *,
    is_strict: bool = False,
    readiness: Readiness | None = None,
) -> APIRouter:
    """The routes, for `application.build`. Once `is_leaving` says so, the instance is not ready any more.

    `is_strict` is that of `readiness.checks`. A `readiness` that is given is asked at intervals while the application
    runs, for `ReadinessMetrics`.
    """

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        if given is None:
            yield
        else:
            async with given.watched():
                yield

    given, readiness = readiness, readiness or Readiness(engine, is_leaving, is_strict)
    found = APIRouter(lifespan=lifespan)

    @found.api_route("/livez", methods=[GET, HEAD], include_in_schema=False)
    async def livez() -> Response:
        return PlainTextResponse("ok\n", headers=_NO_STORE)

    @found.api_route("/readyz", methods=[GET, HEAD], include_in_schema=False)
    async def readyz(request: Request) -> Response:
        looked = await readiness.found()
        can_serve = is_ready(looked)
        if request.scope.get("state", {}).get(IS_UNKNOWN_HOST):
            return PlainTextResponse("ready\n" if can_serve else "not ready\n", _status(can_serve), headers=_NO_STORE)
        is_degraded = any(check.name == "partitions" and not check.ok for check in looked)
        text = "not ready\n" if not can_serve else "degraded\n" if is_degraded else "ready\n"
        text = "".join(f"{check.says}\n" for check in looked if check.name == "partitions" and not check.ok) + text
        if "verbose" in request.query_params:
            text = "".join(f"[{_mark(check)}] {check.name}: {check.says}\n" for check in looked) + text
        return PlainTextResponse(text, _status(can_serve), headers=_NO_STORE)

    return found


def _status(can_serve: bool) -> int:
    return 200 if can_serve else 503


def _mark(check: Check) -> str:
    return "ok" if check.ok else "failing" if check.is_needed else "warning"

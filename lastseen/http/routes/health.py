"""`/livez` and `/readyz`: whether the process answers, and whether this instance is ready for requests.

The log may take long to answer, or never: it is asked in a thread, one question at a time, and a probe waits for the
answer only so long. Probes that come together share an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio.to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from lastseen.embedded.engine import Engine
from lastseen.http.guard.guard import IS_UNKNOWN_HOST
from lastseen.http.head_method import GET, HEAD
from lastseen.monitoring.readiness import Check, checks

PATIENCE_S = 2.0
"""How long a probe waits for the checks."""
_NO_STORE = {"Cache-Control": "no-store"}
_SLOW = Check("log", False, f"no response within {PATIENCE_S:g} s: check that this machine can reach the log")


class Readiness:
    """Asks whether an engine is ready, for many probes at a time."""

    def __init__(self, engine: Engine, is_leaving: Callable[[], bool], is_strict: bool) -> None:
        self._engine = engine
        self._is_leaving = is_leaving
        self._is_strict = is_strict
        self._checking: asyncio.Task[list[Check]] | None = None

    async def found(self, patience_s: float = PATIENCE_S) -> list[Check]:
        """What the checks say; that they take too long, if so."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._ask())
        try:
            # Shielded: the next probe may get the answer that this one does not wait for.
            return await asyncio.wait_for(asyncio.shield(self._checking), patience_s)
        except TimeoutError:
            return [_SLOW]

    async def _ask(self) -> list[Check]:
        # What hangs must not hang the end of the program: such a thread is left alone.
        return await anyio.to_thread.run_sync(
            lambda: list(checks(self._engine, self._is_leaving, is_strict=self._is_strict)), abandon_on_cancel=True
        )


def router(engine: Engine, is_leaving: Callable[[], bool] = lambda: False, *, is_strict: bool = False) -> APIRouter:
    """The routes, for `application.build`. Once `is_leaving` says so, the instance is not ready any more.

    `is_strict` is that of `readiness.checks`.
    """
    readiness = Readiness(engine, is_leaving, is_strict)
    found = APIRouter()

    @found.api_route("/livez", methods=[GET, HEAD], include_in_schema=False)
    async def livez() -> Response:
        return PlainTextResponse("ok\n", headers=_NO_STORE)

    @found.api_route("/readyz", methods=[GET, HEAD], include_in_schema=False)
    async def readyz(request: Request) -> Response:
        looked = await readiness.found()
        is_ready = all(check.ok for check in looked if check.is_needed)
        if request.scope.get("state", {}).get(IS_UNKNOWN_HOST):
            return PlainTextResponse("ready\n" if is_ready else "not ready\n", _status(is_ready), headers=_NO_STORE)
        is_degraded = any(check.name == "partitions" and not check.ok for check in looked)
        text = "not ready\n" if not is_ready else "degraded\n" if is_degraded else "ready\n"
        text = "".join(f"{check.says}\n" for check in looked if check.name == "partitions" and not check.ok) + text
        if "verbose" in request.query_params:
            text = "".join(f"[{_mark(check)}] {check.name}: {check.says}\n" for check in looked) + text
        return PlainTextResponse(text, _status(is_ready), headers=_NO_STORE)

    return found


def _status(is_ready: bool) -> int:
    return 200 if is_ready else 503


def _mark(check: Check) -> str:
    return "ok" if check.ok else "failing" if check.is_needed else "warning"

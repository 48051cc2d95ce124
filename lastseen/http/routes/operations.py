"""Work that takes longer than a request: begun by one, watched by others, remembered for a while."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import queries, service_responses
from lastseen.api.problems import Problem
from lastseen.auth.caller import Scope
from lastseen.engine.errors import LastseenError
from lastseen.http import responses
from lastseen.http.caller import caller_of
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import query_of
from lastseen.http.routes.statistics import for_all_keys
from lastseen.http.worker_threads import WorkerThreads

MAX_RUNNING = 2
MAX_REMEMBERED = 100
PATH = "/v1/operations"
Progress = Callable[[int, int], None]
Work = Callable[[Progress], dict[str, Any]]
_logger = logging.getLogger("lastseen")


class OperationRunner:
    """Operations in progress, and the results of ended ones. To be used in the event loop."""

    def __init__(self, workers: WorkerThreads) -> None:
        self._workers = workers
        self._all: dict[str, service_responses.LongOperation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        workers.at_close(self.close)

    def start(self, kind: service_responses.OperationKind, work: Work) -> Response:
        """Begin some work; answers 202 with where it can be watched. Raises `Problem` 503 while too much goes on."""
        if self._is_closed or len(self._tasks) >= MAX_RUNNING:
            raise Problem(
                503, "too-many-operations", f"{MAX_RUNNING} operations are in progress, and that is the limit",
                headers={"Retry-After": "5"},
            )  # fmt: skip
        operation = service_responses.LongOperation(secrets.token_urlsafe(12), kind, "running", _now_ms())
        self._all[operation.id] = operation
        while len(self._all) > MAX_REMEMBERED:
            del self._all[next(name for name, each in self._all.items() if each.status != "running")]
        task = asyncio.ensure_future(self._run(operation, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return responses.of_value(operation, 202, {"Location": f"{PATH}/{operation.id}"})

    async def _run(self, operation: service_responses.LongOperation, work: Work) -> None:
        def progress(done: int, total: int) -> None:
            operation.done, operation.total = done, total
            if self._is_closed:
                raise _ServiceStopped

        try:
            operation.result = await self._workers.call(work, progress)
            operation.status = "done"
        except (LastseenError, _ServiceStopped) as error:
            operation.error = service_responses.Failure(
                type(error).__name__.strip("_"), str(error) or "the service has stopped"
            )
            operation.status = "failed"
        except Exception:
            _logger.exception("an operation failed unexpectedly")
            operation.error = service_responses.Failure(
                "Unexpected", "an unexpected error: the service's log describes it"
            )
            operation.status = "failed"
        operation.ended_at_ms = _now_ms()

    async def close(self) -> None:
        """Break off operations in progress at their next step, and accept no more."""
        self._is_closed = True
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    # ── the handlers ──

    async def list(self, request: Request) -> Response:
        """All that are remembered, newest first."""
        for_all_keys(caller_of(request, Scope.ADMIN))
        query_of(request, queries.EmptyQuery)
        return responses.of_value({"operations": list(reversed(self._all.values()))})

    async def get(self, request: Request) -> Response:
        """One."""
        for_all_keys(caller_of(request, Scope.ADMIN))
        query_of(request, queries.EmptyQuery)
        operation = self._all.get(request.path_params["id"])
        if operation is None:
            raise Problem(
                404, "no-such-operation",
                f"this instance has no such operation: it remembers the last {MAX_REMEMBERED} since its start",
            )  # fmt: skip
        return responses.of_value(operation)


class _ServiceStopped(Exception):
    """The service stops: the work is broken off."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def operations(runner: OperationRunner) -> list[Operation]:
    """The operations."""
    return [
        Operation(
            "GET", PATH, "listOperations", runner.list, Scope.ADMIN, "Operations of this instance",
            {200: Success("Newest first.", service_responses.LongOperations)}, tag="service", query=queries.EmptyQuery,
        ),
        Operation(
            "GET", f"{PATH}/{{id}}", "getOperation", runner.get, Scope.ADMIN, "One operation",
            {200: Success("Its progress, or its result.", service_responses.LongOperation)}, tag="service",
            problems=(404,),
            query=queries.EmptyQuery,
        ),
    ]  # fmt: skip

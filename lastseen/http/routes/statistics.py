"""Routes of figures: statistics, and how each projection stands."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import queries, service_responses
from lastseen.api.paths import STATISTICS
from lastseen.api.problems import Problem
from lastseen.auth.caller import Caller, Scope
from lastseen.engine.errors import LastseenError
from lastseen.http import responses
from lastseen.http.caller import caller_of
from lastseen.http.operation import Operation, Success
from lastseen.http.requests import query_of
from lastseen.http.worker_threads import WorkerThreads

_THREADS: dict[service_responses.ProjectionName, str] = {
    "live_view": "follow",
    "snapshot": "flush",
    "history": "flush",
    "pruner": "prune",
    "facts": "publish",
}
"""Projection → the engine's background task that records its failures."""


def for_all_keys(caller: Caller) -> None:
    """Refuse callers that see some keys only: figures of the whole would tell them of others. Raises `Problem` 403."""
    if caller.prefix:
        raise Problem(
            403, "forbidden", "this token is for some keys only, and this covers all: use a token for all keys"
        )


class ServiceStatistics:
    """The handlers."""

    def __init__(self, workers: WorkerThreads) -> None:
        self._workers = workers
        self._engine = workers.engine

    async def statistics(self, request: Request) -> Response:
        """Counters and gauges."""
        for_all_keys(caller_of(request, Scope.READ))
        query_of(request, queries.EmptyQuery)
        return responses.of_value(await self._workers.call(self._engine.statistics))

    async def projections(self, request: Request) -> Response:
        """Every projection."""
        for_all_keys(caller_of(request, Scope.READ))
        query_of(request, queries.EmptyQuery)
        return await self._workers.call(self._projections)

    def _projections(self) -> Response:
        engine = self._engine
        obstacle = engine.obstacle()
        failures: dict[str, LastseenError] = engine.health()
        partitions, behind, behind_ms = [], None, None
        try:
            lags = {lag.partition: lag for lag in engine.lags()} if obstacle is None else {}
        except LastseenError as error:
            failures.setdefault("follow", error)
        else:
            behind = sum(lag.records for lag in lags.values())
            behind_ms = max((lag.ms for lag in lags.values()), default=0)
            for number, (checkpoint, digest) in engine.checkpoints().items():
                if number in lags:
                    partitions.append(
                        service_responses.PartitionState(
                            number, checkpoint, digest, lags[number].records, lags[number].ms / 1000
                        )
                    )
        snapshot = engine.snapshot_state()
        lag: dict[service_responses.ProjectionName, tuple[int | None, int | None]] = {
            "live_view": (behind, behind_ms),
            "snapshot": (snapshot.unsaved, snapshot.age_ms),
        }
        states = [
            self._state(name, obstacle or failures.get(thread), obstacle is not None, *lag.get(name, (None, None)))
            for name, thread in _THREADS.items()
        ]
        body = {"projections": states, "partitions": partitions}
        reflected = [each.partition for each in partitions[:64]]
        return responses.of_value(body, headers=responses.reflecting(engine, reflected))

    def _state(
        self,
        name: service_responses.ProjectionName,
        error: LastseenError | None,
        has_stopped: bool,
        events: int | None,
        ms: int | None,
    ) -> service_responses.ProjectionState:
        if has_stopped:
            phase = "stopped"
        elif error is not None:
            phase = "retrying"
        else:
            phase = "catching_up" if name == "live_view" and events else "live"
        failure = None if error is None else service_responses.Failure(type(error).__name__, str(error))
        return service_responses.ProjectionState(name, phase, events, None if ms is None else ms / 1000, failure)


def operations(workers: WorkerThreads) -> list[Operation]:
    """The operations."""
    handlers = ServiceStatistics(workers)
    only_all = "For tokens that see all keys; others get 403."
    return [
        Operation(
            "GET", STATISTICS, "readStatistics", handlers.statistics, Scope.READ, "Counters and gauges",
            {200: Success("What has happened so far, counted.", dict[str, Any])}, only_all, tag="service",
            query=queries.EmptyQuery,
        ),
        Operation(
            "GET", "/v1/projections", "readProjections", handlers.projections, Scope.READ,
            "The state of each projection",
            {200: Success("Phase, lag and last error.", service_responses.Projections, ("Position", "Partitions"))},
            only_all, tag="service", query=queries.EmptyQuery,
        ),
    ]  # fmt: skip

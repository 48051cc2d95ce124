"""`/metrics`: the engine's figures, those of the requests, and those of the process, for Prometheus.

Requests are counted by method, route template and status. A path is never a label, since it holds a session key; what
fits no route, and an unknown method, share one value each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from time import perf_counter_ns

import anyio
import anyio.to_thread
from fastapi import APIRouter
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lastseen.api.problems import Problem
from lastseen.auth.caller import Scope as May
from lastseen.embedded.engine import Engine
from lastseen.embedded.histogram import Durations
from lastseen.http.caller import caller_of
from lastseen.http.guard.access_log import UNKNOWN_ROUTE
from lastseen.http.guard.guard import STREAM_PATHS, UNAUTHENTICATED
from lastseen.http.head_method import GET, HEAD
from lastseen.monitoring.metrics import OTHER, EngineCollector

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
SCRAPE_THREADS = 2
"""Scrapes that are served at a time."""
FIRST_BUCKET, BUCKET_STEP = 18, 2
"""The classes of durations: from 0.26 ms, each four times the last. Every route has its own, so they are few."""


class RequestMetrics(Collector):
    """What was asked of one application. Used by its event loop alone; read from anywhere."""

    def __init__(self) -> None:
        self._responses: Counter[tuple[str, str, int]] = Counter()
        self._durations: dict[tuple[str, str], Durations] = {}
        self.in_progress = 0
        """Requests in progress, event streams included."""

    def with_metrics(self, guard: Callable[[ASGIApp], ASGIApp]) -> Callable[[ASGIApp], ASGIApp]:
        """`guard`, with every request counted, those that it refuses too: give it to `application.build`."""
        return lambda app: MeteredRequests(guard(app), self)

    def count(self, method: str, route: str, status: int, elapsed_ns: int | None) -> None:
        """Count one response; without a duration, an event stream."""
        method = method if method in METHODS else OTHER
        self._responses[method, route, status] += 1
        if elapsed_ns is not None:
            durations = self._durations.get((method, route))
            if durations is None:
                durations = self._durations[method, route] = Durations()
            durations.add(elapsed_ns)

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        responses = CounterMetricFamily(
            "lastseen_http_requests", "Requests that got a response", labels=["method", "route", "status"]
        )
        for (method, route, status), count in list(self._responses.items()):
            responses.add_metric([method, route, str(status)], count)
        yield responses
        durations = HistogramMetricFamily(
            "lastseen_http_request_duration_seconds", "Duration of requests, without event streams",
            labels=["method", "route"],
        )  # fmt: skip
        for labels, each in list(self._durations.items()):
            durations.add_metric(labels, each.buckets(FIRST_BUCKET, BUCKET_STEP), each.total_ns / 1e9)
        yield durations
        yield GaugeMetricFamily("lastseen_http_requests_under_way", "Requests in progress", self.in_progress)


class MeteredRequests:
    """Middleware that counts requests and times their answers."""

    def __init__(self, app: ASGIApp, requests: RequestMetrics) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def observe_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._requests.in_progress += 1
        began_ns = perf_counter_ns()
        try:
            await self._app(scope, receive, observe_status)
        finally:
            self._requests.in_progress -= 1
            elapsed_ns = perf_counter_ns() - began_ns
            route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
            # The server answers 500 for an application that raised before it answered.
            self._requests.count(scope["method"], route, status or 500, None if route in STREAM_PATHS else elapsed_ns)


def router(engine: Engine, requests: RequestMetrics | None = None, *more: Collector) -> APIRouter:
    """The route `/metrics`, for `application.build`. `requests` adds what its `metered` guard counts, `more` theirs.

    With tokens it needs one of scope `read` that is for all keys, unless the guard opens the path.
    """
    registry = CollectorRegistry()
    registry.register(EngineCollector(engine))
    if requests is not None:
        registry.register(requests)
    for each in more:
        registry.register(each)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    found = APIRouter()

    threads: list[anyio.CapacityLimiter] = []

    @found.api_route("/metrics", methods=[GET, HEAD], include_in_schema=False)
    async def metrics(request: Request) -> Response:
        if request.scope["state"]["caller"] is not UNAUTHENTICATED and caller_of(request, May.READ).prefix:
            raise Problem(403, "forbidden", "the figures are of all sessions: use a token that is for all keys")
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        if not threads:
            threads.append(anyio.CapacityLimiter(SCRAPE_THREADS))
        # In a thread, since the event loop must not wait for the view's lock, and one that no other request takes.
        text = await anyio.to_thread.run_sync(encode, registry, limiter=threads[0])
        return Response(text, headers={"Content-Type": content_type})

    return found

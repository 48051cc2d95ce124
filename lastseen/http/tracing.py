"""Traces of requests, by OpenTelemetry: a span for each, below the one that the caller names in `traceparent`.

By the route's template and never by the path or the query, which hold session keys.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lastseen.http.guard.access_log import UNKNOWN_ROUTE
from lastseen.http.routes.metrics import METHODS
from lastseen.monitoring.metrics import OTHER

PROPAGATED = (b"traceparent", b"tracestate", b"baggage")


def traced(guard: Callable[[ASGIApp], ASGIApp]) -> Callable[[ASGIApp], ASGIApp]:
    """`guard`, with a span around every request, those that it refuses too: give it to `application.build`."""
    return lambda app: TracedRequests(guard(app))


class TracedRequests:
    """Middleware that traces requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tracer = trace.get_tracer("lastseen")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        carried = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in PROPAGATED}
        method = scope["method"] if scope["method"] in METHODS else OTHER
        status = 0

        async def observe_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._tracer.start_as_current_span(
            method, propagate.extract(carried), SpanKind.SERVER, {"http.request.method": method},
            record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                await self._app(scope, receive, observe_status)
            finally:
                # The server answers 500 for an application that raised before it answered.
                status = status or 500
                route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))

"""The HTTP application: an engine's operations as routes, described in OpenAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lastseen.api.problems import Problem
from lastseen.auth.caller import ANONYMOUS
from lastseen.embedded.engine import Engine
from lastseen.http import responses
from lastseen.http.failures import install_problem_handlers, with_problem_responses
from lastseen.http.guard.limits import MAX_STREAMS
from lastseen.http.head_method import HeadResponses, methods_of
from lastseen.http.key_paths import RawKeyPaths
from lastseen.http.operation import Handler, Operation, components_of, describe
from lastseen.http.routes import (
    bulk,
    commands,
    history,
    pages,
    problem_types,
    pruning,
    sessions,
    snapshots,
    statistics,
    stream,
    touches,
)
from lastseen.http.routes import operations as long_operations
from lastseen.http.worker_threads import WorkerThreads
from lastseen.version import __version__

Guard = Callable[[ASGIApp], ASGIApp]
"""Wraps the application: identifies the caller, sets `scope["state"]["caller"]`, refuses requests by the limits."""

_NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own would put paths and queries, and so session keys, into traces: `lastseen.http.tracing` does not."""
_ABOUT = """\
Live sessions, their deadlines, and why each ended. Times are UTC in milliseconds. Errors are problem details (RFC
9457): compare `type`, read `detail`. A response's `Position` names the records that it reflects; passed as
`min_position` to another instance, it makes that instance wait until it reflects them too. Every path that has `GET`
also has `HEAD`.
"""


class Unguarded:
    """The guard of a service that has no tokens: every caller is `ANONYMOUS`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["caller"] = ANONYMOUS
        await self._app(scope, receive, send)


def build(
    engine: Engine, *, guard: Guard = Unguarded, operations: Sequence[APIRouter] = (), max_streams: int = MAX_STREAMS
) -> FastAPI:
    """The application of an engine. The engine stays the caller's: shut it down after the application has ended.

    `guard` is the middleware that authenticates callers; `operations` are more routers, such as those of health and
    metrics; `max_streams` event streams may be open at once. `worker_threads_of(app).close()` ends streams and running
    operations. The application calls it at the end of its lifespan; a server that waits for open streams must call
    `stop_streams` before that.
    """
    workers = WorkerThreads(engine)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await workers.close()

    app = FastAPI(
        title="lastseen", description=_ABOUT, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False,
        lifespan=lifespan, telemetry=_NO_TELEMETRY,
    )  # fmt: skip
    app.state.workers = workers
    install_problem_handlers(app)
    described = operations_of(workers, max_streams)
    for operation in described:
        route = route_of(operation)
        route.methods = methods_of(operation.method)
        app.router.routes.append(route)
    for router in operations:
        app.include_router(router)
    _publish_description(app, described)
    app.include_router(pages.router(lambda: app.openapi()))
    app.add_middleware(HeadResponses)
    app.add_middleware(RawKeyPaths)
    app.add_middleware(guard)
    return app


def route_of(operation: Operation) -> APIRoute:
    """The route of an operation: FastAPI's in OpenAPI, and without its reading of requests and writing of answers.

    It takes the operation's own method only: that there is `HEAD` too goes without saying in a description.
    """
    handler = with_problem_responses(without_ignored_headers(operation))
    route = APIRoute(
        operation.path, handler, methods=[operation.method], response_class=Response, response_model=None,
        status_code=min(operation.responses), name=operation.name, operation_id=operation.name,
        openapi_extra=describe(operation),
    )  # fmt: skip

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)

    route.app = answer
    return route


_TERMS = ("If-Match", "Idempotency-Key")
"""Request headers by which a caller makes a change conditional, or safe to repeat."""


def without_ignored_headers(operation: Operation) -> Handler:
    """The handler of an operation, which refuses such headers where it would ignore them: callers rely on them."""
    ignored = () if operation.method == "GET" else [name for name in _TERMS if name not in operation.headers]
    if not ignored:
        return operation.handler

    async def refuse_ignored(request: Request) -> Response:
        for name in ignored:
            if name in request.headers:
                raise Problem(422, "invalid-parameter", f"{name}: this operation would ignore it: leave it out")
        return await operation.handler(request)

    return refuse_ignored


def worker_threads_of(app: FastAPI) -> WorkerThreads:
    """What the routes of an application share."""
    workers: WorkerThreads = app.state.workers
    return workers


def operations_of(workers: WorkerThreads, max_streams: int = MAX_STREAMS) -> list[Operation]:
    """Every operation of the API, those that are asked for most first: routes are tried in this order."""
    runner = long_operations.OperationRunner(workers)
    return [
        *commands.operations(workers), *touches.operations(workers), *bulk.operations(workers),
        *sessions.operations(workers),
        *history.operations(workers), *stream.operations(workers, max_streams), *pruning.operations(workers),
        *statistics.operations(workers),
        *snapshots.operations(workers, runner), *long_operations.operations(runner), *problem_types.operations(),
    ]  # fmt: skip


def _publish_description(app: FastAPI, described: Sequence[Operation]) -> None:
    made: list[dict[str, Any]] = []

    def description() -> dict[str, Any]:
        if not made:
            made.append(_description(app, described))
        return made[0]

    async def openapi(_: Request) -> Response:
        return responses.of_value(description())

    app.openapi = description  # type: ignore[method-assign]
    app.add_route("/openapi.json", openapi, include_in_schema=False)


def _description(app: FastAPI, described: Sequence[Operation]) -> dict[str, Any]:
    found = get_openapi(
        title=app.title, version=__version__, description=app.description,
        routes=[route_of(operation) for operation in described],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )  # fmt: skip
    components = found.setdefault("components", {})
    components["schemas"] = components_of(list(described))
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A token that `lastseen token create` made."}
    }
    return found

"""What goes wrong, as problem details: every answer that is no success has the same form, and tells no internals."""

from __future__ import annotations

import logging
from functools import wraps
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from lastseen.api.problems import Problem, problem_of
from lastseen.api.status_phrases import phrase_of
from lastseen.engine.errors import LastseenError
from lastseen.http.operation import Handler
from lastseen.http.responses import of_problem
from lastseen.http.tenant_refusals import refusal_for

_logger = logging.getLogger("lastseen")
_SLUGS = {400: "bad-request", 404: "no-such-path", 405: "method-not-allowed", 413: "too-large"}
_DETAILS = {
    404: "no resource has this path: see /openapi.json for all paths",
    405: "this path does not allow this method: the header Allow lists those that it allows",
}
_UNEXPECTED = Problem(500, "failed", "an unexpected error: the service's log describes it")


def with_problem_responses(handler: Handler) -> Handler:
    """`handler`, with what it raises turned into answers."""

    @wraps(handler)
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except Problem as problem:
            return of_problem(problem)
        except LastseenError as error:
            return of_problem(problem_of(await refusal_for(request, error)))
        except HTTPException:
            raise
        except Exception:
            # The error may contain anything, a caller's secrets included: it goes into the log, not into the response.
            _logger.exception("a request failed unexpectedly")
            return of_problem(_UNEXPECTED)

    return guarded


def install_problem_handlers(app: FastAPI) -> None:
    """Have an application answer with problem details, whatever is raised wherever."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return of_problem(error)

    async def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, LastseenError)
        return of_problem(problem_of(error))

    async def not_routed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": ", ".join(_methods_at(app, request))}
        status = error.status_code
        slug = _SLUGS.get(status, phrase_of(status).lower().replace(" ", "-"))
        return of_problem(Problem(status, slug, _DETAILS.get(status, str(error.detail)), headers=headers))

    async def not_valid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        location = ".".join(map(str, first["loc"]))
        return of_problem(Problem(422, "invalid-parameter", f"{location}: {first['msg']}"))

    async def unexpected(_: Request, error: Exception) -> Response:
        _logger.error("a request failed unexpectedly", exc_info=error)
        return of_problem(_UNEXPECTED)

    for kind, handler in (
        (Problem, refused),
        (LastseenError, failed),
        (HTTPException, not_routed),
        (RequestValidationError, not_valid),
        (Exception, unexpected),
    ):
        app.add_exception_handler(kind, handler)


def _methods_at(app: FastAPI, request: Request) -> list[str]:
    """All methods of a path: each is a route of its own, and the router names only the first one's."""
    found: set[str] = set()
    for route in app.router.routes:
        matched, _ = route.matches(request.scope)
        if matched is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found)

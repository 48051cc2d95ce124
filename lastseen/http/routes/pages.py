"""`/` and `/docs`: where a person who opens the service's address in a browser begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lastseen.http import responses
from lastseen.http.api_page import LINKS, STYLE, api_page, index_page
from lastseen.http.head_method import GET, HEAD
from lastseen.version import __version__

_HEADERS = {
    # They hold text and one stylesheet, so nothing else is allowed: no script, no image, no form, no connection.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
}


def router(describe: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """The routes; `describe` gives the OpenAPI document. Programs get `/` as JSON."""
    found = APIRouter()
    made: list[str] = []

    @found.api_route("/", methods=[GET, HEAD], include_in_schema=False)
    async def index(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return _html(index_page(__version__))
        return responses.of_value({"name": "lastseen", "version": __version__, "links": LINKS})

    @found.api_route("/docs", methods=[GET, HEAD], include_in_schema=False)
    async def docs() -> Response:
        if not made:
            made.append(api_page(describe()))
        return _html(made[0])

    @found.api_route("/docs/style.css", methods=[GET, HEAD], include_in_schema=False)
    async def style() -> Response:
        return Response(STYLE, media_type="text/css", headers=_HEADERS)

    return found


def _html(text: str) -> Response:
    return Response(text, media_type="text/html", headers=_HEADERS)

"""The kinds of problems, each with what it means: what the `type` of a problem document leads to."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import service_responses
from lastseen.api.problem_document import TYPES
from lastseen.api.problems import KINDS, Problem
from lastseen.http import responses
from lastseen.http.operation import Operation, Success

OF_HTTP: Mapping[str, str] = {
    "another-log": "A position or an event's id is of another log than this service's: read the state again.",
    "bad-length": "Content-Length is not a whole number of bytes.",
    "bad-request": "The request is not valid HTTP.",
    "body-too-large": "The body is larger than the service accepts: send less at a time.",
    "chunks-too-small": "The body comes in too many small chunks: send larger ones, or Content-Length.",
    "forbidden": "The token does not allow this: it lacks the scope, or is for other keys.",
    "foreign-origin": "Web pages of other origins may not use the service.",
    "head-too-large": "The request has more fields, or longer ones, than the service accepts.",
    "head-too-slow": "The head of the request took too long to arrive.",
    "idempotency-key-reused": "The Idempotency-Key was used with another body before: give each request its own.",
    "invalid-body": "The body is not JSON, or does not match its schema.",
    "method-not-allowed": "The path does not allow this method: the field Allow lists those that it allows.",
    "no-such-operation": "This instance has no such operation: it remembers the last 100 since its start.",
    "no-such-path": "No resource has this path: /openapi.json lists all paths.",
    "no-such-plan": "The plan was already applied, is too old, or was made by another instance: make a new one.",
    "no-such-problem": "No problem type has this name.",
    "no-such-record": "This instance has no record at that position in the key's partition.",
    "no-such-snapshot": "No snapshot has this name: see the list of snapshots.",
    "packed-body": "The body is compressed, and the service accepts only plain bodies.",
    "position-not-reached": "This instance has not folded min_position yet: try again, or use the instance that"
    " wrote it.",
    "repeated-field": "The request repeats a field that it may have only once.",
    "snapshot-in-memory": "This instance keeps its snapshot in memory, so it cannot be archived.",
    "token-missing": "The service requires a bearer token, and the request has none.",
    "token-refused": "The token is unknown, revoked, or has expired.",
    "tokens-unreadable": "The service cannot read its file of tokens, and refuses every request until it can.",
    "too-deep": "The JSON is nested more deeply than the service accepts.",
    "too-large": "The request is larger than the service accepts.",
    "too-many-connections": "Too many connections are open: try again after Retry-After, or use fewer.",
    "too-many-operations": "The limit on running operations is reached: try again after Retry-After.",
    "too-many-requests": "The rate limit of this token is exceeded: try again after Retry-After.",
    "too-many-streams": "The limit on open streams is reached: try again after Retry-After, or use another instance.",
    "too-slow": "The request took too long. It continues in the service: read before you try again.",
    "unknown-host": "The Host of the request is not a name of the service.",
    "unsupported-media-type": "The body is not JSON: send Content-Type: application/json.",
    "upload-too-slow": "The body took too long to arrive.",
    "url-too-long": "The address of the request is longer than the service accepts.",
    "overloaded": "The service is overloaded: try again after Retry-After.",
}
"""Those that no error of the engine stands for."""


def meanings() -> dict[str, str]:
    """Every kind and what it means."""
    ours = {kind.slug: " ".join((inspect.getdoc(error) or "").split()) for error, kind in KINDS}
    return dict(sorted({**OF_HTTP, **ours}.items()))


async def _get(request: Request) -> Response:
    name = request.path_params["name"]
    meaning = meanings().get(name)
    if meaning is None:
        raise Problem(404, "no-such-problem", "no problem type has this name: see the list at /problems/")
    return responses.of_value(service_responses.ProblemType(TYPES + name, meaning))


async def _list(_: Request) -> Response:
    found = [service_responses.ProblemType(TYPES + name, meaning) for name, meaning in meanings().items()]
    return responses.of_value({"problems": found})


def operations() -> list[Operation]:
    """The operations."""
    return [
        Operation(
            "GET", TYPES, "listProblemTypes", _list, None, "Every kind of problem",
            {200: Success("Each with what it means.", service_responses.ProblemTypes)}, tag="problems",
        ),
        Operation(
            "GET", f"{TYPES}{{name}}", "getProblemType", _get, None, "What a kind of problem means",
            {200: Success("What it means.", service_responses.ProblemType)},
            "Where the `type` of a problem document leads.",
            tag="problems", problems=(404,),
        ),
    ]  # fmt: skip

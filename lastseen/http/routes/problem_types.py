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
    "another-log": "A position or an event's id is of another log than this service's: read the state anew.",
    "bad-length": "Content-Length is not a whole number of bytes.",
    "bad-request": "The request is not valid HTTP.",
    "body-too-large": "The body is larger than the service takes: send less at a time.",
    "forbidden": "The token is not for this: it lacks the scope, or is for other keys.",
    "foreign-origin": "Web pages of other origins may not use the service.",
    "head-too-large": "The request has more fields, or longer ones, than the service takes.",
    "head-too-slow": "The head of the request took too long to arrive.",
    "idempotency-key-reused": "The Idempotency-Key came with another body before: give each request its own.",
    "invalid-body": "The body is not JSON, or does not match its schema.",
    "method-not-allowed": "The path does not take this method: the field Allow names those that it takes.",
    "no-such-operation": "This instance knows no such operation: it remembers the last 100 since its start.",
    "no-such-path": "There is nothing at this path: /openapi.json says what there is.",
    "no-such-plan": "The plan was already applied, is too old, or was made by another instance: make a new one.",
    "no-such-problem": "There is no such kind of problem.",
    "no-such-record": "This instance knows no record at that position in the key's partition.",
    "no-such-snapshot": "There is no snapshot of this name: see the list of them.",
    "packed-body": "The body is compressed, and the service takes plain ones only.",
    "position-not-reached": "This instance has not folded min_position yet: try again, or ask the one that wrote it.",
    "repeated-field": "A field stands twice in the request that may stand there once.",
    "snapshot-in-memory": "This instance keeps its snapshot in memory, so it cannot be archived.",
    "token-missing": "The service wants a bearer token, and the request has none.",
    "token-refused": "The token is unknown, revoked, or has expired.",
    "tokens-unreadable": "The service cannot read its file of tokens, and refuses every request until it can.",
    "too-deep": "The JSON is nested more deeply than the service takes.",
    "too-large": "The request is larger than the service takes.",
    "too-many-operations": "The limit on running operations is reached: try again after Retry-After.",
    "too-many-requests": "The rate limit of this token is exceeded: try again after Retry-After.",
    "too-many-streams": "The limit on open streams is reached: try again after Retry-After, or use another instance.",
    "too-slow": "The request took too long. The work that it began continues: read before you try again.",
    "unknown-host": "The Host of the request is not a name of the service.",
    "unsupported-media-type": "The body is not JSON: send Content-Type: application/json.",
    "upload-too-slow": "The body took too long to arrive.",
    "url-too-long": "The address of the request is longer than the service takes.",
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
        raise Problem(404, "no-such-problem", "there is no such kind of problem: see the list at /problems/")
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

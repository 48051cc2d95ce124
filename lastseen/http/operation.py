"""One operation of the API: its handler, and all that OpenAPI says of it.

Handlers read requests and write answers themselves, which costs less than FastAPI's models do; so what they take and
give is stated here, and tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lastseen.api import problems
from lastseen.api.fields import Key
from lastseen.api.problem_document import ProblemDocument
from lastseen.api.status_phrases import phrase_of
from lastseen.auth.caller import Scope
from lastseen.http.portable_schemas import portable, without_defaults

Handler = Callable[[Request], Awaitable[Response]]
REFERENCE = "#/components/schemas/{name}"

COMMON_PROBLEMS = (400, 401, 403, 408, 413, 414, 415, 421, 422, 429, 431, 500, 503, 504)
"""Problems that any operation may return: the guard's and the limits', and those of an unavailable log."""

RESPONSE_HEADERS: Mapping[str, dict[str, Any]] = {
    "ETag": {
        "description": "The session's version, for `If-Match`.",
        "schema": {"type": "string", "examples": ['"7"']},
    },
    "Position": {
        "description": "The last records that the response reflects, partition:offset; for `min_position`.",
        "schema": {"type": "string", "examples": ["0:1234"]},
    },
    "Partitions": {
        "description": "How many partitions the log has: a key's is Kafka's murmur2 of its UTF-8, modulo this.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,5}$", "examples": ["12"]},
    },
    "Location": {
        "description": "Its address.",
        "schema": {"type": "string", "format": "uri-reference", "examples": ["/v1/sessions/telegram%3A42"]},
    },
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "string"}},
    "Allow": {"description": "The allowed methods.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "The response repeats that to an earlier request with this Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}


@dataclass(frozen=True, slots=True)
class Success:
    """A way in which an operation may succeed."""

    description: str
    kind: Any = None
    """The class of its body; `None`: it has none."""
    headers: tuple[str, ...] = ()
    example: Any = None
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """A method and a path, what it does, takes and gives."""

    method: str
    path: str
    name: str
    """Its `operationId`."""
    handler: Handler
    scope: Scope | None
    """The scope that a caller's token needs; `None`: no token is needed."""
    summary: str
    responses: Mapping[int, Success]
    description: str = ""
    tag: str = "sessions"
    body: type[msgspec.Struct] | None = None
    body_example: Any = None
    needs_body: bool = False
    query: type[msgspec.Struct] | None = None
    headers: tuple[str, ...] = ()
    """Request headers that it takes, besides those of every operation; keys of `REQUEST_HEADERS`."""
    problems: tuple[int, ...] = ()
    """More statuses of problems, beside `EVERYWHERE`."""
    links: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


REQUEST_HEADERS: Mapping[str, dict[str, Any]] = {
    "If-Match": {
        "description": "Only if the session still has this version (its `ETag`); else 412.",
        "schema": {"type": "string", "pattern": '^("[0-9]{1,15}"|\\*)$'},
        "example": '"7"',
    },
    "If-None-Match": {
        "description": "Respond with 304 if the session has this version.",
        "schema": {"type": "string", "pattern": '^("[0-9]{1,15}"|\\*)$'},
        "example": '"7"',
    },
    "Idempotency-Key": {
        "description": "Makes a retry safe: requests of one caller with the same key, path and body have one effect and"
        " one response. This instance remembers the last 10,000 responses for a day. Other instances know from the log"
        " which session was created, also by a rotation: none creates a second one for the same key, and once that one"
        " has ended, the response is 410, or 409 for a rotation. They store the message of a touch once.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
        "example": "0f5c2a3e-8a52-4d4b-9a6b-0d4f6c1d2e3f",
    },
    "Last-Event-ID": {
        "description": "Continue after this event; an `EventSource` sends it when it reconnects.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,20000}$"},
    },
}


def describe(operation: Operation) -> dict[str, Any]:
    """What OpenAPI says of an operation (`openapi_extra` of FastAPI)."""
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"{operation.description} {_needed(operation.scope)}".strip(),
        "tags": [operation.tag],
        "parameters": _parameters(operation),
        "responses": _responses(operation),
        "security": [{}] if operation.scope is None else [{"token": []}, {}],
    }
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schema_of(operation.body)}
        if operation.body_example is not None:
            content["example"] = operation.body_example
        described["requestBody"] = {"required": operation.needs_body, "content": {"application/json": content}}
    return described


def _needed(scope: Scope | None) -> str:
    return "Needs no token." if scope is None else f"Needs the scope `{scope.value}`."


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "{key}" in operation.path:
        found.append(
            {
                "name": "key",
                "in": "path",
                "required": True,
                "description": "The session key, percent-encoded as one segment: a slash in it is %2F.",
                "schema": {"$ref": "#/components/schemas/SessionKey"},
                "example": "discord:guild1:chan2:user3",
            }
        )
    for name in ("id", "name"):
        if f"{{{name}}}" in operation.path:
            schema = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,200}$"}
            found.append({"name": name, "in": "path", "required": True, "schema": schema})
    if operation.query is not None:
        _, components = msgspec.json.schema_components([operation.query], ref_template=REFERENCE)
        schema = portable(components[operation.query.__name__])
        for name, member in schema["properties"].items():
            found.append({"name": name, "in": "query", "required": name in schema["required"], **_as_query(member)})
    found += [{"name": name, "in": "header", "required": False, **REQUEST_HEADERS[name]} for name in operation.headers]
    return found


def _as_query(member: dict[str, Any]) -> dict[str, Any]:
    """A field's schema as that of a parameter: one that may be left out is never null."""
    schema = dict(member)
    default = schema.pop("default", None)
    if "anyOf" in schema:
        (schema,) = [dict(each) for each in schema["anyOf"] if each != {"type": "null"}]
    described = {"description": schema.pop("description")} if "description" in schema else {}
    if default is not None:
        schema["default"] = default
    return {**described, "schema": schema}


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, response in operation.responses.items():
        described: dict[str, Any] = {"description": response.description}
        if response.kind is not None:
            content: dict[str, Any] = {"schema": schema_of(response.kind)}
            if response.example is not None:
                content["example"] = response.example
            described["content"] = {response.media_type: content}
        if response.headers:
            described["headers"] = {name: RESPONSE_HEADERS[name] for name in response.headers}
        if status in operation.links:
            described["links"] = dict(operation.links[status])
        found[str(status)] = described
    for status in sorted({*COMMON_PROBLEMS, *operation.problems}):
        found[str(status)] = _problem(status)
    return dict(sorted(found.items()))


def _problem(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": phrase_of(status),
        "content": {problems.MEDIA_TYPE: {"schema": schema_of(ProblemDocument)}},
    }
    if status in (421, 429, 503):
        described["headers"] = {"Retry-After": RESPONSE_HEADERS["Retry-After"]}
    return described


def schema_of(kind: Any) -> dict[str, Any]:
    """A reference to the schema of a class, or the schema itself where it is a plain one."""
    return dict(_schema_of(kind))


@cache
def _schema_of(kind: Any) -> dict[str, Any]:
    # Asked for some 450 times an application, most often for problems; without the cache a start takes 0.3 s longer.
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=REFERENCE)
    found: dict[str, Any] = portable(schema)
    return found


def components_of(operations: list[Operation]) -> dict[str, Any]:
    """The schemas that operations refer to."""
    kinds: list[Any] = [ProblemDocument]
    for operation in operations:
        kinds += [response.kind for response in operation.responses.values() if response.kind is not None]
        if operation.body is not None:
            kinds.append(operation.body)
    _, components = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    found = {name: without_defaults(portable(each)) for name, each in components.items()}
    return found | {"SessionKey": schema_of(Key)}

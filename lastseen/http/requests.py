"""Reading requests: queries and bodies, strictly, into the classes of `lastseen.api`."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request

from lastseen.api.points_in_time import point_in_time
from lastseen.api.problems import Problem
from lastseen.embedded.engine import Engine
from lastseen.engine.arguments import ANY, Anything
from lastseen.engine.log.port import Position
from lastseen.http.duplicate_names import duplicate_name

T = TypeVar("T", bound=msgspec.Struct)
V = TypeVar("V")

_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


async def body_of(request: Request, kind: type[T]) -> T:
    """The body of a request; one that is empty counts as `{}`. Raises `Problem` 415 and 422."""
    content = await request.body()
    if not content:
        content = b"{}"
    else:
        check_content_type(request)
    return decoded(content, kind)


def check_content_type(request: Request) -> None:
    """Raise `Problem` 415 where a body says to be something else than JSON."""
    stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if stated != "application/json":
        raise Problem(415, "unsupported-media-type", "the body must be JSON: send Content-Type: application/json")


def decoded(content: bytes, kind: type[T]) -> T:
    """A body as an instance of `kind`. Raises `Problem` 422, also where an object in it gives a name twice."""
    found = _decoded(content, kind)
    try:
        twice = duplicate_name(content)
    except RecursionError:
        raise _too_deep() from None
    if twice is not None:
        raise Problem(422, "invalid-body", f"the body gives {twice[:40]!a} more than once in one object")
    return found


def _too_deep() -> Problem:
    return Problem(422, "invalid-body", "the body is nested too deeply: 16 levels are the limit")


def _decoded(content: bytes, kind: type[T]) -> T:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        found: T = decoder.decode(content)
    except msgspec.ValidationError as error:
        if "`float`" in str(error):
            return _with_whole_numbers(content, kind)
        raise Problem(422, "invalid-body", f"the body breaks a rule: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(422, "invalid-body", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    return found


_FREE = ("attributes", "message")
"""Fields whose values are the caller's own."""


def _with_whole_numbers(content: bytes, kind: type[T]) -> T:
    """The same where a whole number was written as `5.0`, which JSON does not tell from `5`. Raises `Problem` 422."""

    def whole(value: Any) -> Any:
        return int(value) if isinstance(value, float) and value.is_integer() else value

    try:
        raw = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(422, "invalid-body", f"the body is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise Problem(422, "invalid-body", "the body is not a JSON object")
    for name, value in raw.items():
        if isinstance(value, dict) and name not in _FREE:
            raw[name] = {inner: whole(each) for inner, each in value.items()}
        elif name not in _FREE:
            raw[name] = whole(value)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-body", f"the body breaks a rule: {error}") from None


def or_any(value: V | UnsetType) -> V | Anything:
    """The filter that a query or a body gives, or none."""
    return ANY if value is UNSET else value


def or_none(value: V | UnsetType) -> V | None:
    """What a query says, or nothing. In a query `null` is a text like any other, so `None` is no value there."""
    return None if value is UNSET else value


def query_of(request: Request, kind: type[T]) -> T:
    """The query of a request. Raises `Problem` 422 for a parameter that is unknown, repeated, or out of bounds."""
    pairs = request.query_params.multi_items() if request.scope["query_string"] else []
    given = dict(pairs)
    if len(given) < len(pairs):
        twice = next(name for name in given if sum(name == other for other, _ in pairs) > 1)
        raise Problem(422, "invalid-parameter", f"the parameter {twice[:40]!a} is given more than once")
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-parameter", f"the query breaks a rule: {error}") from None


def point_in_time_of_key(engine: Engine, key: str, name: str, text: str) -> int | Position:
    """The log time or the position in the parameter `name`. Raises `Problem` 422; 404 for an unknown record.

    A position must be in the key's partition, and this engine must have folded it.
    """
    at = point_in_time(name, text)
    if isinstance(at, Position):
        number = engine.partition_of(key)
        if at.partition != number or not engine.has_reached(at):
            raise Problem(
                404, "no-such-record",
                f"{name}: this instance has no record {text} in the key's partition, {number}; give the position of"
                " a record there, or a time",
            )  # fmt: skip
    return at

"""Reading requests: queries and bodies, strictly, into the classes of `models`."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from lastseen.http.problems import Problem

T = TypeVar("T", bound=msgspec.Struct)

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
    """A body as one of the models. Raises `Problem` 422."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        found: T = decoder.decode(content)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-body", f"the body breaks a rule: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(422, "invalid-body", f"the body is no JSON: {error}") from None
    except RecursionError:
        raise Problem(422, "invalid-body", "the body is nested too deeply: 16 levels are the limit") from None
    return found


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

"""Errors of a client: the engine's own, built again from the problem that the service answered with (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lastseen.api.problems import KINDS, MEDIA_TYPE, TYPES
from lastseen.engine import errors
from lastseen.engine.errors import LastseenError, NotOwner, shown

MAX_DETAIL_CHARACTERS = 2_000
_BY_NAME: dict[str, type[LastseenError]] = {
    name: kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, LastseenError)
}
_BY_SLUG: dict[str, type[LastseenError]] = {
    **{kind.slug: error for error, kind in KINDS if error is not LastseenError},
    "invalid-body": errors.InvalidEvent,
    "too-deep": errors.InvalidEvent,
}


class ServiceError(LastseenError):
    """The service refused a request for a reason of HTTP's own, or gave an answer that makes no sense."""

    def __init__(self, message: str, status: int, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The answer's HTTP status."""
        self.kind = kind
        """The last part of the problem's `type`, such as `forbidden`; `None` if the answer was no problem document."""


class Stated(msgspec.Struct):
    """A problem document, as far as it is read."""

    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    error: str | None = None
    address: str | None = None

    @property
    def slug(self) -> str | None:
        """The last part of the type, if it is one of the service's."""
        return self.type.removeprefix(TYPES) if self.type.startswith(TYPES) else None


_decoder = msgspec.json.Decoder(Stated)


def problem_in(headers: Mapping[str, str], content: bytes) -> Stated | None:
    """The problem that an answer states; `None` if it is none of ours, but a proxy's, say."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        return None
    try:
        stated = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return stated if stated.slug is not None else None


def error_for(status: int, stated: Stated | None) -> LastseenError:
    """The error that an answer stands for: a class of `engine.errors`, or `ServiceError`."""
    if stated is None:
        return ServiceError(
            f"the answer has status {status} and is none of lastseen's: see whether the address is the service's, and"
            " what stands between",
            status,
        )
    said = stated.detail or stated.title
    detail = said if len(said) <= MAX_DETAIL_CHARACTERS else f"{said[:MAX_DETAIL_CHARACTERS]}…"
    kind = _BY_NAME.get(stated.error or "") or _BY_SLUG.get(stated.slug or "")
    if kind is None or kind is LastseenError:
        return ServiceError(f"{detail} (status {status}, {shown(stated.slug)})", status, stated.slug)
    if issubclass(kind, NotOwner):
        return kind(detail, stated.address)
    return kind(detail)


def unreadable_response(status: int, why: Any) -> ServiceError:
    """The error for a success whose body is not what it must be."""
    return ServiceError(
        f"the answer has status {status}, but its body is not what a service of lastseen answers ({shown(str(why))}):"
        " see whether the address is the service's, and what stands between",
        status,
    )

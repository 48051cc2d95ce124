"""Errors of a client: those of the engine, rebuilt from the problem document in a response (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lastseen.api.positions import position_or_none
from lastseen.api.problem_document import ProblemDocument
from lastseen.api.problems import KINDS, MEDIA_TYPE
from lastseen.engine import errors
from lastseen.engine.errors import LastseenError, NotOwner, OwnerState, SessionEnd, SessionEnded, shown

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
    """The service refused a request for a reason specific to HTTP, or sent a response that is not valid."""

    def __init__(self, message: str, status: int, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status of the response."""
        self.kind = kind
        """The last part of the problem's `type`, such as `forbidden`; `None` if the response has none."""


_decoder = msgspec.json.Decoder(ProblemDocument)


def problem_in(headers: Mapping[str, str], content: bytes) -> ProblemDocument | None:
    """The problem document in a response; `None` if it has none of the service's own, but, say, one of a proxy."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        return None
    try:
        return _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def error_for(status: int, problem: ProblemDocument | None) -> LastseenError:
    """The error that a response reports: a class of `engine.errors`, or `ServiceError`."""
    if problem is None:
        return ServiceError(
            f"the response has status {status} and does not come from lastseen: check that the address is the"
            " service's, and the proxies before it",
            status,
        )
    detail = problem.detail
    if len(detail) > MAX_DETAIL_CHARACTERS:
        detail = f"{detail[:MAX_DETAIL_CHARACTERS]}…"
    kind = _BY_NAME.get(problem.error or "") or _BY_SLUG.get(problem.slug)
    if kind is None or kind is LastseenError:
        return ServiceError(f"{detail} (status {status}, {shown(problem.slug)})", status, problem.slug)
    if issubclass(kind, NotOwner):
        return kind(detail, problem.address or None, OwnerState(problem.owner) if problem.owner else None)
    error = kind(detail)
    if isinstance(error, SessionEnded) and problem.ended:
        ended = problem.ended
        place = None if ended.position is None else position_or_none(ended.position)
        error.session_id = ended.session_id
        error.end = SessionEnd(
            ended.session_id, ended.began_at_ms, ended.ended_at_ms, ended.reason, place, ended.ended_by
        )
    return error


def unreadable_response(status: int, why: Any) -> ServiceError:
    """The error for a success whose body is not valid."""
    return ServiceError(
        f"the response has status {status}, but its body is not one of a lastseen service ({shown(str(why))}):"
        " check that the address is the service's, and the proxies before it",
        status,
    )

"""Errors as HTTP responses: problem details (RFC 9457), one type for each kind of error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from lastseen.api.problem_document import TYPES, EndedSession, ProblemDocument
from lastseen.api.status_phrases import phrase_of
from lastseen.engine import errors

OWNER_RETRY_S = 1
"""When to ask again for the owner of a partition, where its address is not known."""
MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """The response to a kind of error."""

    status: int
    slug: str
    """The last part of the problem's `type`."""
    retry_after_s: int | None = None
    """When to try again, if that may help and is safe."""


KINDS: tuple[tuple[type[errors.LastseenError], Kind], ...] = (
    (errors.InvalidKey, Kind(422, "invalid-key")),
    (errors.InvalidEvent, Kind(422, "invalid-event")),
    (errors.InvalidPolicy, Kind(422, "invalid-policy")),
    (errors.InvalidSetting, Kind(422, "invalid-parameter")),
    (errors.InvalidInput, Kind(422, "invalid-input")),
    (errors.SessionNotFound, Kind(404, "session-not-found")),
    (errors.SessionEnded, Kind(410, "session-ended")),
    (errors.SessionExists, Kind(409, "session-exists")),
    (errors.StaleSession, Kind(409, "stale-session")),
    (errors.SessionSuspended, Kind(409, "session-suspended")),
    (errors.AlreadyDone, Kind(409, "already-done")),
    (errors.VersionConflict, Kind(412, "version-conflict")),
    (errors.TooManyHolders, Kind(409, "too-many-holders")),
    (errors.NotDue, Kind(409, "not-due")),
    (errors.SessionHeld, Kind(409, "session-held")),
    (errors.ClockSkew, Kind(503, "clock-skew")),
    (errors.Refused, Kind(409, "refused")),
    (errors.NotOwner, Kind(421, "not-owner")),
    (errors.LogUnavailable, Kind(503, "log-unavailable", 1)),
    (errors.OutcomeUnknown, Kind(504, "outcome-unknown")),
    (errors.LogError, Kind(503, "log-unusable")),
    (errors.SnapshotError, Kind(503, "snapshot-unusable")),
    (errors.EngineClosed, Kind(503, "shutting-down", 1)),
    (errors.LastseenError, Kind(500, "failed")),
)
"""The first row whose class matches decides."""


class Problem(Exception):
    """A refusal that is specific to HTTP: it corresponds to no error of the engine."""

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail = status, slug, detail
        self.headers = dict(headers or {})
        self.members = dict(members or {})
        """Members of the document besides those that RFC 9457 defines."""


def problem_of(error: errors.LastseenError) -> Problem:
    """The response to an error of the engine."""
    kind = next(kind for known, kind in KINDS if isinstance(error, known))
    headers = {} if kind.retry_after_s is None else {"Retry-After": str(kind.retry_after_s)}
    members: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, errors.NotOwner):
        members["owner"] = error.owner.value
        if error.address is None:
            headers["Retry-After"] = str(OWNER_RETRY_S)
        else:
            members["address"] = error.address
    if isinstance(error, errors.SessionEnded) and error.end is not None:
        members["ended"] = ended_session(error.end)
    return Problem(kind.status, kind.slug, str(error), headers=headers, members=members)


def ended_session(end: errors.SessionEnd) -> EndedSession:
    """How a session ended, for the document."""
    place = None if end.position is None else "{}:{}".format(*end.position)
    return EndedSession(end.session_id, end.began_at_ms, end.ended_at_ms, end.reason, place, end.ended_by)


def document_of(problem: Problem) -> ProblemDocument:
    """The document that describes a problem."""
    title = phrase_of(problem.status)
    return ProblemDocument(TYPES + problem.slug, title, problem.status, problem.detail, **problem.members)


def document(problem: Problem) -> bytes:
    """The body of the response."""
    return msgspec.json.encode(document_of(problem))

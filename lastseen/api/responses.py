"""The bodies of responses about sessions: state, touches, history, messages."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.api.fields import AtMs, Attributes, RecordPosition
from lastseen.api.problem_document import ProblemDocument
from lastseen.engine.session import Policy, Status

LiveStatus = Annotated[Status, Meta(extra_json_schema={"enum": [Status.ACTIVE.value, Status.SUSPENDED.value]})]
"""A session that has ended is never in a response as a session."""
WholePolicy = Annotated[Policy, Meta(extra_json_schema={"required": [field.name for field in fields(Policy)]})]
"""Responses leave out no limit."""


class PreviousSession(Struct, frozen=True):
    """How the session ended that lived under the key before."""

    session_id: str
    began_at_ms: AtMs
    ended_at_ms: AtMs
    reason: Annotated[str, Meta(examples=["idle"])]
    position: RecordPosition | None
    """The record that ended it, or that found it due."""
    ended_by: str | None
    """The service that wrote that record."""


class Session(Struct, frozen=True, kw_only=True):
    """A live session, as it was when the response was made. It has the attributes of an engine's `SessionView`."""

    key: str
    """The subject of the session: at most one session lives under a key."""
    session_id: str
    """This session, among all that ever lived under the key."""
    status: LiveStatus
    version: Annotated[int, Meta(ge=1, description="The number of events that were applied to it; also its ETag.")]
    owner: Annotated[str | None, Meta(description="Its attribute `owner`, if that is text.")]
    created_at_ms: AtMs
    last_active_at_ms: AtMs
    deadline_ms: Annotated[int | None, Meta(description="When it is due; null if no limit applies.")]
    deadline_reason: Annotated[
        Literal["idle", "max_age", "suspend_ttl"] | None, Meta(description="The limit that sets the deadline.")
    ]
    holders: Annotated[dict[str, int], Meta(description="Each holder, and when its lease lapses.")]
    position: RecordPosition
    """The record of its last activity."""
    policy: WholePolicy
    attributes: Attributes
    previous: PreviousSession | None = None
    """In the response that creates a session: how the one ended that lived under the key before, as far as the history
    knows. Left out if there was none, and in all other responses."""

    @property
    def partition(self) -> int:
        """The partition of the log that it is in."""
        return self.position.partition

    def as_dict(self) -> dict[str, Any]:
        """The session as plain JSON values."""
        plain: dict[str, Any] = {**msgspec.to_builtins(self), "position": list(self.position)}
        del plain["previous"]
        return plain


class SessionPage(Struct):
    """One page of a listing."""

    sessions: list[Session]
    cursor: str | None
    """Fetches the next page; null on the last."""


class Accepted(Struct):
    """The request was accepted; the response did not wait for its outcome."""

    accepted: Literal[True]


# ── many touches ──


class AppliedTouch(Struct, frozen=True, tag_field="result", tag="applied"):
    """A touch that took effect."""

    session_id: str
    version: int
    last_active_at_ms: AtMs
    deadline_ms: int | None
    position: RecordPosition


class SentTouch(Struct, frozen=True, tag_field="result", tag="sent"):
    """A touch that is on its way to the log."""


class RefusedTouch(Struct, frozen=True, tag_field="result", tag="refused"):
    """A touch that had no effect."""

    problem: ProblemDocument


TouchResult = AppliedTouch | SentTouch | RefusedTouch


class TouchResults(Struct):
    """The outcome of each touch, in the order of the keys."""

    results: list[TouchResult]


# ── bulk commands ──


class BulkResult(Struct, frozen=True, omit_defaults=True):
    """What a bulk command did to one session."""

    key: str
    session_id: str | None
    result: Annotated[
        Literal["applied", "selected", "refused"], Meta(description="`selected`: it would be tried, this is a dry run.")
    ]
    problem: ProblemDocument | UnsetType = UNSET


class BulkResults(Struct):
    """The outcome for each session, in the order of the request; of a filter, the oldest first."""

    results: list[BulkResult]
    applied: Annotated[int, Meta(description="How many the command took effect on.")]
    complete: Annotated[bool, Meta(description="Whether no more sessions fit.")]


# ── history ──


class Record(Struct):
    """One record of a key, with its verdict."""

    key: str
    offset: int
    partition: int
    at_ms: Annotated[int, Meta(description="Its log time; for a record of an invalid form, when the log received it.")]
    verdict: Annotated[str, Meta(description="`applied`, or why it is void.", examples=["applied"])]
    name: Annotated[str | None, Meta(description="The event's short name; null if the record holds no known event.")]
    session_id: str | None
    event_id: str | None
    source: str | None
    reason: str | None


class SessionSpan(Struct):
    """One session of a key, from its beginning to its end."""

    key: str
    began_offset: int
    session_id: str
    partition: int
    began_at_ms: AtMs
    began_by: Annotated[str | None, Meta(description="The service that wrote the record which began it.")]
    ended_at_ms: int | None
    ended_offset: int | None
    ended_by: Annotated[
        str | None,
        Meta(
            description="The service that wrote the record which ended it; where a limit ended it, the one whose record"
            " found it past its limit."
        ),
    ]
    reason: str | None
    owner: Annotated[str | None, Meta(description="Its owner, at its end if it has ended.")] = None
    last_active_at_ms: int | None = None
    deadline_ms: Annotated[int | None, Meta(description="When it is or was due, or would have been.")] = None
    version: Annotated[int | None, Meta(description="The number of events that were applied to it.")] = None
    policy: WholePolicy | None = None
    limit_ms: Annotated[int | None, Meta(description="The value of the limit that ended it; null if none did.")] = None


class HistoryPage(Struct):
    """One page of records, or of sessions from beginning to end."""

    cursor: Annotated[int | None, Meta(description="`after` of the next page; null on the last.")]
    records: list[Record] | UnsetType = UNSET
    lives: list[SessionSpan] | UnsetType = UNSET


class EndedPage(Struct):
    """One page of ended sessions, the latest end first."""

    sessions: list[SessionSpan]
    cursor: Annotated[str | None, Meta(description="Fetches the next page; null on the last.")]


class Explanation(Struct):
    """Why a session lives or ended: a sentence for people, the rest for programs."""

    key: str
    status: Literal["active", "suspended", "ended", "unknown"]
    sentence: str
    session_id: str | None
    deadline_ms: int | None
    reason: str | None
    partition: int | None
    offset: Annotated[int | None, Meta(description="The record that decided it.")]
    source: Annotated[str | None, Meta(description="The service that wrote it.")]
    at_ms: Annotated[int | None, Meta(description="The time that it is about; null: now.")] = None
    began_at_ms: int | None = None
    last_active_at_ms: int | None = None
    ended_at_ms: Annotated[
        int | None, Meta(description="When it ended, if it has by now: also of a session that was live at `at_ms`.")
    ] = None
    limit_ms: Annotated[int | None, Meta(description="The value of the limit that `reason` names.")] = None
    max_sessions: Annotated[int | None, Meta(description="The bound that evicted it, if its record says so.")] = None
    displaced_by: Annotated[
        str | None,
        Meta(description="The last session to begin before it was evicted, if the caller may read that key."),
    ] = None
    policy: WholePolicy | None = None


class Message(Struct):
    """One message of a session."""

    offset: int
    event_id: str
    at_ms: AtMs
    value: Annotated[msgspec.Raw, Meta(description="Any JSON value.")]


class Messages(Struct):
    """The newest messages of a session, oldest first."""

    messages: list[Message]

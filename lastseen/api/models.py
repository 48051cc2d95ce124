"""The JSON that goes over the wire: what callers may send, with its bounds, and what they get.

Requests are read strictly: a field that is not here is refused. The schemas in OpenAPI are made from these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.engine.events import MAX_KEY_CHARACTERS
from lastseen.engine.session import MAX_LIMIT_MS

MAX_TOUCHES = 10_000
_NO_CONTROL = "[^\\u0000-\\u001f\\u007f-\\u009f]"

Key = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        pattern=f"^{_NO_CONTROL}+$",
        description="What the session is about; any text without control characters.",
        examples=["discord:guild1:chan2:user3"],
    ),
]
SessionId = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9_-]{22,128}$",
        description="Pins the request to this very session.",
        examples=["h3Zq0mJ5Tn2b8c1xYw9KfA"],
    ),
]
Holder = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=f"^{_NO_CONTROL}+$",
        description="Names the job that holds the session.",
        examples=["summariser-7"],
    ),
]
Reason = Annotated[
    str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$", description="Why, as one lower-case word.", examples=["logout"])
]
Limit = Annotated[int, Meta(gt=0, le=MAX_LIMIT_MS, description="Milliseconds; null means no limit.")]
AtMs = Annotated[int, Meta(description="UTC, in milliseconds since 1970.", examples=[1_700_000_000_000])]
Place = Annotated[
    tuple[int, int], Meta(description="Partition and offset of a record in the log.", examples=[[0, 1234]])
]
PlaceText = Annotated[
    str, Meta(pattern="^[0-9]+:-?[0-9]+$", description="partition:offset of a record in the log.", examples=["0:1234"])
]
Attributes = Annotated[
    dict[str, Any],
    Meta(description="State that services keep with the session: at most 16 KiB of JSON, 16 levels deep."),
]


# ── what callers send ──


class Limits(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The limits a session lives under, in milliseconds; null disables one."""

    idle_ttl_ms: Limit | None = None
    max_age_ms: Limit | None = None
    suspend_ttl_ms: Limit | None = None
    touch_precision_ms: Annotated[int, Meta(ge=0, le=MAX_LIMIT_MS)] = 0
    max_hold_ms: Limit | None = 3_600_000
    max_messages: Annotated[int, Meta(gt=0, le=1_000_000)] | None = 1000


class NewSession(Struct, forbid_unknown_fields=True):
    """A session to open; with `if_exists` = `refuse`, one to create."""

    key: Key
    attributes: Attributes | None = None
    policy: Limits | None = None
    if_exists: Literal["open", "refuse"] = "open"


class Touch(Struct, forbid_unknown_fields=True):
    """Activity. May carry a merge patch of the attributes (RFC 7396), one message, new limits."""

    session_id: SessionId | None = None
    attributes: Attributes | None = None
    message: Annotated[Any, Meta(description="Any JSON value, at most 64 KiB.")] = None
    policy: Limits | None = None


class Pinned(Struct, forbid_unknown_fields=True):
    """Why, and which very session."""

    reason: Reason | None = None
    session_id: SessionId | None = None


class Hold(Struct, forbid_unknown_fields=True):
    """A lease to take or to renew."""

    holder: Holder
    lease_ms: Annotated[int, Meta(gt=0, le=MAX_LIMIT_MS)] = 60_000
    session_id: SessionId | None = None


class Release(Struct, forbid_unknown_fields=True):
    """A lease to give up."""

    holder: Holder
    session_id: SessionId | None = None


class Rotation(Struct, forbid_unknown_fields=True):
    """What the session that takes over begins with; what is not given carries over."""

    reason: Reason = "rotated"
    attributes: Attributes | None = None
    policy: Limits | None = None
    session_id: SessionId | None = None


class Touches(Struct, forbid_unknown_fields=True):
    """Sessions to touch in one append."""

    keys: Annotated[list[str], Meta(min_length=1, max_length=MAX_TOUCHES, description="One touch for each, in order.")]
    wait: Literal["applied", "appended", "none"] = "applied"


class Pruning(Struct, forbid_unknown_fields=True):
    """With `apply`, the plan to carry out; without it, a plan is made."""

    apply: Annotated[str, Meta(min_length=1, max_length=100, description="The `plan` of an earlier answer.")] | None = (
        None
    )


# ── what they get ──


class Session(Struct):
    """A live session, as it was when the answer was made."""

    key: str
    session_id: str
    status: Literal["active", "suspended"]
    version: Annotated[int, Meta(ge=1, description="How many events have been applied to it; also its ETag.")]
    owner: Annotated[str | None, Meta(description="Its attribute `owner`, if that is text.")]
    created_at_ms: AtMs
    last_active_at_ms: AtMs
    deadline_ms: Annotated[int | None, Meta(description="When it is due; null if no limit applies.")]
    deadline_reason: Literal["idle", "max_age", "suspend_ttl"] | None
    holders: Annotated[dict[str, int], Meta(description="Who holds it, and until when.")]
    position: Place
    policy: Policy
    attributes: Attributes


class Policy(Struct):
    """The limits a session lives under, in milliseconds; null means no limit."""

    idle_ttl_ms: int | None
    max_age_ms: int | None
    suspend_ttl_ms: int | None
    touch_precision_ms: int
    max_hold_ms: int | None
    max_messages: int | None


class Ended(Struct):
    """How a session ended."""

    session_id: str
    began_at_ms: AtMs
    ended_at_ms: AtMs
    reason: Annotated[str, Meta(examples=["idle"])]
    position: PlaceText | None
    """The record that ended it, or that found it due; null while none has said so."""
    ended_by: str | None
    """The service that wrote that record."""


class ProblemDocument(Struct):
    """What went wrong (RFC 9457). `type` names the kind for programs, `detail` says it to people."""

    type: Annotated[str, Meta(pattern="^/problems/[a-z-]+$", examples=["/problems/session-ended"])]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    error: str | UnsetType = UNSET
    """The class of the engine's error, where one stands behind it."""
    address: str | UnsetType = UNSET
    """Where the instance that has the session is to be reached."""
    ended: Ended | UnsetType = UNSET


class Accepted(Struct):
    """Something was taken in, and nobody has waited for what becomes of it."""

    accepted: Literal[True]


class Applied(Struct, tag_field="result", tag="applied"):
    """A touch that took effect."""

    session_id: str
    version: int
    last_active_at_ms: AtMs
    deadline_ms: int | None
    position: Place


class Sent(Struct, tag_field="result", tag="sent"):
    """A touch that is on its way to the log."""


class Refused(Struct, tag_field="result", tag="refused"):
    """A touch that had no effect."""

    problem: ProblemDocument


class TouchResults(Struct):
    """What became of each touch, in the order of the keys."""

    results: list[Applied | Sent | Refused]


class SessionPage(Struct):
    """One page of a listing."""

    sessions: list[Session]
    cursor: str | None
    """Fetches the next page; null on the last."""


# ── the past ──


class Record(Struct):
    """One record of a key, and what became of it."""

    key: str
    offset: int
    partition: int
    at_ms: Annotated[int, Meta(description="Its log time; for one that is void for its form, when the log took it.")]
    verdict: Annotated[str, Meta(description="`applied`, or why it is void.", examples=["applied"])]
    name: Annotated[str | None, Meta(description="The event's short name; null where it holds no event of ours.")]
    session_id: str | None
    event_id: str | None
    source: str | None
    reason: str | None


class Life(Struct):
    """One session of a key, from its beginning to its end."""

    key: str
    began_offset: int
    session_id: str
    partition: int
    began_at_ms: AtMs
    began_by: Annotated[str | None, Meta(description="The service that wrote the record which began it.")]
    ended_at_ms: int | None
    ended_offset: int | None
    ended_by: Annotated[str | None, Meta(description="The service that wrote the record which ended it.")]
    reason: str | None


class HistoryPage(Struct):
    """One page of records, or of lives."""

    cursor: Annotated[int | None, Meta(description="`after` of the next page; null on the last.")]
    records: list[Record] | UnsetType = UNSET
    lives: list[Life] | UnsetType = UNSET


class Explanation(Struct):
    """Why a session lives or ended: a sentence for people, the rest for programs."""

    key: str
    status: Literal["active", "suspended", "ended", "unknown"]
    sentence: str
    session_id: str | None
    deadline_ms: int | None
    reason: str | None
    partition: int | None
    offset: Annotated[int | None, Meta(description="The record that decided.")]
    source: Annotated[str | None, Meta(description="The service that wrote it.")]


class Message(Struct):
    """One message of a session."""

    offset: int
    event_id: str
    at_ms: AtMs
    value: Annotated[Any, Meta(description="Any JSON value.")]


class Messages(Struct):
    """The newest messages of a session, oldest first."""

    messages: list[Message]

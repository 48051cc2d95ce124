"""The stored event types. Their names and fields *are* the format of the log: nothing here is ever renamed.

Each is a CloudEvents 1.0 event in structured JSON. What the models refuse is void `malformed` in the fold and
`InvalidEvent` at the edge; the bounds are those of DESIGN section 3. Unknown fields are ignored, so that a new optional
field may be added in `v1`; every other change is a `v2` type and an upcaster (`engine.codec`).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from lastseen.engine.log.port import MAX_PARTITIONS
from lastseen.engine.session import MAX_LIMIT_MS, Milliseconds, Policy

MAX_KEY_CHARACTERS = 512
MAX_ATTRIBUTES_BYTES = 16 * 1024
MAX_MESSAGE_BYTES = 64 * 1024
MAX_JSON_DEPTH = 16
MAX_RECORD_BYTES = 128 * 1024
"""No well-formed record is larger, envelope included; a larger one is void before it is parsed."""

_STRICT = ConfigDict(strict=True, extra="ignore")
_NO_CONTROL = "[^\\u0000-\\u001f\\u007f-\\u009f]"
_INT64 = range(-(2**63), 2**63)


def check_json(value: Any, max_bytes: int) -> Any:
    """`value`, if it is plain JSON no deeper than 16 levels and, encoded compactly, no larger than `max_bytes`.

    Raises `ValueError` otherwise. Integers must fit 64 bits and floats be finite, or readers would disagree on them.
    """
    _check_depth(value, MAX_JSON_DEPTH)
    size = len(msgspec.json.encode(value))
    if size > max_bytes:
        raise ValueError(f"{size} bytes of JSON, and the limit is {max_bytes}")
    return value


def _check_depth(value: Any, depth: int) -> None:
    if isinstance(value, str):
        value.encode("utf-8")  # a lone surrogate is a UnicodeEncodeError, hence a ValueError
    elif isinstance(value, dict | list):
        if depth == 0:
            raise ValueError(f"JSON nested deeper than {MAX_JSON_DEPTH} levels")
        if isinstance(value, dict):
            for name, member in value.items():
                if not isinstance(name, str):
                    raise ValueError(f"a JSON object has text for names, not {type(name).__name__}")
                name.encode("utf-8")
                _check_depth(member, depth - 1)
        else:
            for member in value:
                _check_depth(member, depth - 1)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if value not in _INT64:
            raise ValueError("an integer does not fit 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("JSON has no NaN and no infinity")
    else:
        raise ValueError(f"{type(value).__name__} is not a JSON value")


def _check_attributes(value: dict[str, Any] | None) -> dict[str, Any] | None:
    return value if value is None else check_json(value, MAX_ATTRIBUTES_BYTES)


def _check_message(value: Any) -> Any:
    return value if value is None else check_json(value, MAX_MESSAGE_BYTES)


SessionKey = Annotated[str, Field(pattern=f"^{_NO_CONTROL}{{1,{MAX_KEY_CHARACTERS}}}$")]
SessionId = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{22,128}$")]
EventId = Annotated[str, Field(pattern=f"^{_NO_CONTROL}{{1,128}}$")]
Source = Annotated[str, Field(pattern=f"^{_NO_CONTROL}{{1,256}}$")]
Holder = Annotated[str, Field(pattern=f"^{_NO_CONTROL}{{1,128}}$")]
Reason = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}$")]
Time = Annotated[
    str,
    Field(
        pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?"
        "(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$",
        description="RFC 3339, with an offset",
    ),
]
Version = Annotated[int, Field(ge=0, le=MAX_LIMIT_MS)]
Attributes = Annotated[dict[str, Any], AfterValidator(_check_attributes)]
Message = Annotated[Any, AfterValidator(_check_message)]
ExpiryReason = Literal["idle", "max_age", "suspend_ttl", "capacity", "memory"]
TIMED_REASONS = frozenset({"idle", "max_age", "suspend_ttl"})


@dataclass(slots=True, kw_only=True, config=_STRICT)
class SessionData:
    """What every session event says: which session, and optionally at which version only."""

    session_id: SessionId
    if_version: Version | None = None


@dataclass(slots=True, kw_only=True, config=_STRICT)
class CreatedData(SessionData):
    """A session begins. With `replaces`, it takes over from that live session in one step, for `reason`."""

    policy: Policy
    attributes: Attributes = Field(default_factory=dict)
    replaces: SessionId | None = None
    reason: Reason | None = None


@dataclass(slots=True, kw_only=True, config=_STRICT)
class TouchedData(SessionData):
    """Activity. `attributes` is a merge patch (RFC 7396); `message` is any JSON value."""

    attributes: Attributes | None = None
    message: Message = None
    policy: Policy | None = None


@dataclass(slots=True, kw_only=True, config=_STRICT)
class ReasonedData(SessionData):
    """Suspension and resumption, with an optional reason for the record."""

    reason: Reason | None = None


@dataclass(slots=True, kw_only=True, config=_STRICT)
class HeldData(SessionData):
    """A job holds the session; its lease lapses by itself after `lease_ms`."""

    holder: Holder
    lease_ms: Milliseconds


@dataclass(slots=True, kw_only=True, config=_STRICT)
class ReleasedData(SessionData):
    """A job is done with the session."""

    holder: Holder


@dataclass(slots=True, kw_only=True, config=_STRICT)
class ExpiredData(SessionData):
    """A limit was reached; `deadline_ms` is the log time at which it was.

    For `capacity`, `max_sessions` says of how many sessions; it is information for readers, not judged.
    """

    reason: ExpiryReason
    deadline_ms: Annotated[int, Field(ge=0, le=MAX_LIMIT_MS)]
    max_sessions: Annotated[int, Field(ge=0, le=MAX_LIMIT_MS)] | None = None


@dataclass(slots=True, kw_only=True, config=_STRICT)
class ClosedData(SessionData):
    """A caller ended the session."""

    reason: Reason


@dataclass(slots=True, kw_only=True, config=_STRICT)
class OpenedData:
    """Which log it is. With `imports`, the events' own times are log times until the import is finished."""

    log_id: Annotated[str, Field(min_length=1, max_length=128)]
    partition: Annotated[int, Field(ge=0, lt=MAX_PARTITIONS)]
    partitions: Annotated[int, Field(ge=1, le=MAX_PARTITIONS)]
    imports: bool


@dataclass(slots=True, kw_only=True, config=_STRICT)
class ImportData:
    """Says nothing: the record's place in the log is what counts."""


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Event:
    """The CloudEvents envelope. `subject` is the session key and equals the record's key."""

    specversion: Literal["1.0"] = "1.0"
    id: EventId
    source: Source
    subject: SessionKey
    time: Time
    datacontenttype: Literal["application/json"] | None = None


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Created(Event):
    type: Literal["lastseen.session.created.v1"] = "lastseen.session.created.v1"
    data: CreatedData


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Touched(Event):
    type: Literal["lastseen.session.touched.v1"] = "lastseen.session.touched.v1"
    data: TouchedData


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Suspended(Event):
    type: Literal["lastseen.session.suspended.v1"] = "lastseen.session.suspended.v1"
    data: ReasonedData


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Resumed(Event):
    type: Literal["lastseen.session.resumed.v1"] = "lastseen.session.resumed.v1"
    data: ReasonedData


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Held(Event):
    type: Literal["lastseen.session.held.v1"] = "lastseen.session.held.v1"
    data: HeldData


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Released(Event):
    type: Literal["lastseen.session.released.v1"] = "lastseen.session.released.v1"
    data: ReleasedData


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Expired(Event):
    type: Literal["lastseen.session.expired.v1"] = "lastseen.session.expired.v1"
    data: ExpiredData


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Closed(Event):
    type: Literal["lastseen.session.closed.v1"] = "lastseen.session.closed.v1"
    data: ClosedData


@dataclass(slots=True, kw_only=True, config=_STRICT)
class Opened(Event):
    """The genesis record: the first of each partition, written by what makes the log. Anywhere else it is void."""

    type: Literal["lastseen.log.opened.v1"] = "lastseen.log.opened.v1"
    data: OpenedData


@dataclass(slots=True, kw_only=True, config=_STRICT)
class ImportFinished(Event):
    """From here on, log time is the log's own clock; no producer can forge time any more."""

    type: Literal["lastseen.log.import_finished.v1"] = "lastseen.log.import_finished.v1"
    data: ImportData = Field(default_factory=ImportData)


SessionEvent = Created | Touched | Suspended | Resumed | Held | Released | Expired | Closed
StoredEvent = SessionEvent | Opened | ImportFinished
SESSION_EVENTS: tuple[type[SessionEvent], ...] = (
    Created, Touched, Suspended, Resumed, Held, Released, Expired, Closed,
)  # fmt: skip
STORED_EVENTS: tuple[type[StoredEvent], ...] = (*SESSION_EVENTS, Opened, ImportFinished)
LOG_EVENTS = (Opened, ImportFinished)
"""Events about the log itself."""


def name_of(event: type[StoredEvent] | StoredEvent) -> str:
    """The short name of an event or event type: `touched` for `lastseen.session.touched.v1`."""
    kind = event if isinstance(event, type) else type(event)
    return NAMES[kind]


NAMES: dict[type[Any], str] = {kind: kind.__dataclass_fields__["type"].default.split(".")[2] for kind in STORED_EVENTS}

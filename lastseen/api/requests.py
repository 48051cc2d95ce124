"""The bodies of requests, with their bounds. They are read strictly: an unknown field is refused.

A client leaves out what has its default value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lastseen.api.fields import Attributes, FactKinds, Holder, Key, Limit, Reason, SessionId
from lastseen.engine.session import MAX_LIMIT_MS

MAX_TOUCHES = 10_000
MAX_BULK = 10_000


_UNITS = ("w", "d", "h", "m", "s")
_FIRST = r"([1-9][0-9]{0,6}(\.[0-9]{1,3})?|0\.[0-9]{0,2}[1-9])"
_NEXT = r"[0-9]{1,7}(\.[0-9]{1,3})?"
_SUMS = [
    f"{_FIRST}{unit}{''.join(f'({_NEXT}{smaller})?' for smaller in _UNITS[number + 1 :])}([0-9]{{1,15}}ms)?"
    for number, unit in enumerate(_UNITS)
]
"""By its largest unit, what a duration may be: more than zero, and no more than a limit may be."""

Duration = Annotated[
    str,
    Meta(
        max_length=100, pattern=f"^({'|'.join(_SUMS)}|[1-9][0-9]{{0,14}}ms)$",
        description="A duration with its unit: 90s, 30m, 1h30m, 90d.", examples=["1h30m"],
    ),
]  # fmt: skip


class Limits(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The limits of a session, in milliseconds; null disables one."""

    idle_ttl_ms: Limit | None = None
    max_age_ms: Limit | None = None
    suspend_ttl_ms: Limit | None = None
    touch_precision_ms: Annotated[int, Meta(ge=0, le=MAX_LIMIT_MS)] = 0
    max_hold_ms: Limit | None = 3_600_000
    max_messages: Annotated[int, Meta(gt=0, le=1_000_000)] | None = 1000


class OpenRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A session to open; with `if_exists` = `refuse`, one to create."""

    key: Key
    attributes: Attributes | None = None
    policy: Limits | None = None
    if_exists: Literal["open", "refuse"] = "open"
    touch: Annotated[bool, Meta(description="Touch a live session in the same step, unless it is suspended.")] = False
    idle_ttl: Duration | UnsetType | None = UNSET
    """This limit of a new session, where it differs from `policy`; null disables it. The same for the next two."""
    max_age: Duration | UnsetType | None = UNSET
    suspend_ttl: Duration | UnsetType | None = UNSET


class TouchRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Activity. May carry a merge patch of the attributes (RFC 7396), one message and new limits."""

    session_id: SessionId | None = None
    attributes: Attributes | None = None
    message: Annotated[Any, Meta(description="Any JSON value, at most 64 KiB.")] = None
    policy: Limits | None = None


class ReasonRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The reason for a change, and the session that it is pinned to."""

    reason: Reason | None = None
    session_id: SessionId | None = None


class HoldRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A lease to take or to renew."""

    holder: Holder
    lease_ms: Annotated[int, Meta(gt=0, le=MAX_LIMIT_MS)] = 60_000
    session_id: SessionId | None = None


class ReleaseRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A lease to release."""

    holder: Holder
    session_id: SessionId | None = None


class RotateRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The new session's attributes and limits; those that are left out carry over."""

    reason: Reason = "rotated"
    attributes: Attributes | None = None
    policy: Limits | None = None
    session_id: SessionId | None = None


class CloseRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The reason for the end of a session, and the session that it is pinned to."""

    reason: Reason = "deleted"
    session_id: SessionId | UnsetType = UNSET


class TouchManyRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Sessions to touch in one append."""

    keys: Annotated[list[str], Meta(min_length=1, max_length=MAX_TOUCHES, description="One touch for each, in order.")]
    wait: Literal["applied", "appended", "none"] = "applied"


class BulkSession(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A session that a bulk command names: whichever lives under the key, or the very one with the id."""

    key: str
    session_id: str | UnsetType = UNSET


class BulkRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The sessions that a bulk command is about: `sessions`, or an owner or a prefix, and the reason."""

    sessions: Annotated[list[BulkSession], Meta(max_length=MAX_BULK)] | UnsetType = UNSET
    owner: (
        Annotated[str, Meta(min_length=1, max_length=512, description="Live sessions with this attribute `owner`.")]
        | UnsetType
    ) = UNSET
    prefix: (
        Annotated[str, Meta(min_length=1, max_length=512, description="Live sessions whose key begins with this text.")]
        | UnsetType
    ) = UNSET
    status: Literal["active", "suspended"] | UnsetType = UNSET
    reason: Reason | None = None
    dry_run: Annotated[bool, Meta(description="Only say which sessions are meant.")] = False


class PruneRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """With `apply`, the plan to execute; without it, a plan is made."""

    apply: (
        Annotated[str, Meta(min_length=1, max_length=100, description="The `plan` of an earlier response.")] | None
    ) = None


class StreamTicketRequest(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The stream that a ticket is for; without filters, all that the token may hear."""

    prefix: (
        Annotated[str, Meta(min_length=1, max_length=512, description="Facts of keys that begin with this text.")]
        | UnsetType
    ) = UNSET
    type: FactKinds | UnsetType = UNSET

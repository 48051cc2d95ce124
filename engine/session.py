"""A session's state: `Policy`, `Session` as the fold keeps it, and `SessionView` as callers see it.

`Session` is mutable and lean, because a million of them live in memory; only `engine.lifecycle` changes one.
It is a `msgspec.Struct` without a GC header, which saves 16 bytes a session and keeps the collector from walking a
million of them; it therefore must never be part of a reference cycle.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from lastseen.engine.errors import SessionEnd
from lastseen.engine.log.port import Position

HOUR_MS = 3_600_000
MAX_LIMIT_MS = 2**53 - 1
"""The largest whole number that every JSON reader keeps exact (RFC 8259, section 6)."""

MAX_HOLDERS = 16
"""Live leases that one session may have (DESIGN section 4)."""

Milliseconds = Annotated[int, Field(gt=0, le=MAX_LIMIT_MS)]


class Status(enum.Enum):
    """What a session is doing."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(strict=True, extra="ignore"))
class Policy:
    """The limits a session lives under, all in milliseconds; `None` disables a limit, zero is refused."""

    idle_ttl_ms: Milliseconds | None = None
    """Ends an active session this long after its last activity."""
    max_age_ms: Milliseconds | None = None
    """Ends an active session this long after its creation, time spent suspended not counted."""
    suspend_ttl_ms: Milliseconds | None = None
    """Ends a suspended session this long after it was suspended."""
    touch_precision_ms: Annotated[int, Field(ge=0, le=MAX_LIMIT_MS)] = 0
    """A plain touch so soon after the last one is not written; the idle limit allows as much more."""
    max_hold_ms: Milliseconds | None = HOUR_MS
    """The longest lease that a holder gets at a time."""
    max_messages: Annotated[int, Field(gt=0, le=1_000_000)] | None = 1000
    """How many of the newest messages are kept with the session; the log keeps all."""


def limit_of(policy: Policy, reason: str | None) -> int | None:
    """The value of the limit that a reason names, in milliseconds; `None` for reasons that are no limit of a policy."""
    match reason:
        case "idle":
            return policy.idle_ttl_ms
        case "max_age":
            return policy.max_age_ms
        case "suspend_ttl":
            return policy.suspend_ttl_ms
    return None


_TIME_BITS = 52
_TIME_MASK = (1 << _TIME_BITS) - 1
_TIME_BIAS_MS = 1 << 50
"""Imported history may lie before 1970; every year that RFC 3339 can write fits."""


def pack_beginning(at_ms: int, offset: int) -> int:
    """A log time and an offset in one integer: two would take 32 bytes more, and a million sessions keep theirs."""
    return offset << _TIME_BITS | at_ms + _TIME_BIAS_MS


class Session(msgspec.Struct, gc=False):
    """One live session in the fold. Times are log times in milliseconds; offsets are places in its partition."""

    key: str
    session_id: str
    policy: Policy
    began: int
    """Log time and offset of its `created` record, by `pack_beginning`."""
    last_active_at_ms: int
    last_active_offset: int
    """The offset of its last activity: its place in the LRU order, and the answer to 'why alive'."""
    version: int = 1
    suspended_at_ms: int | None = None
    suspended_ms: int = 0
    """Time spent suspended so far; it does not count towards `max_age_ms`."""
    leases: dict[str, int] | None = None
    """Holder → log time at which its lease lapses."""
    owner: str | None = None
    wake_ms: int | None = None
    """When `projections.deadlines` looks at this session next. No part of the fold's state."""

    @property
    def created_at_ms(self) -> int:
        return (self.began & _TIME_MASK) - _TIME_BIAS_MS

    @property
    def born_offset(self) -> int:
        """The offset of its `created` record: the integer that names the session in the snapshot."""
        return self.began >> _TIME_BITS

    @property
    def status(self) -> Status:
        return Status.ACTIVE if self.suspended_at_ms is None else Status.SUSPENDED

    def deadline_ms(self) -> int | None:
        """The log time at which it is due; `None` if no limit applies. It is due at and after it.

        Active: min(created + max_age + time spent suspended, max(last_active + idle_ttl + touch_precision, latest
        lease)). Suspended: suspended_at + suspend_ttl. (DESIGN section 4.)
        """
        policy = self.policy
        if self.suspended_at_ms is not None:
            return None if policy.suspend_ttl_ms is None else self.suspended_at_ms + policy.suspend_ttl_ms
        due: int | None = None
        if policy.idle_ttl_ms is not None:
            due = self.last_active_at_ms + policy.idle_ttl_ms + policy.touch_precision_ms
            if self.leases:
                due = max(due, *self.leases.values())
        if policy.max_age_ms is not None:
            oldest = self.created_at_ms + policy.max_age_ms + self.suspended_ms
            if due is None or oldest < due:
                due = oldest
        return due

    def deadline_reason(self) -> str | None:
        """Which limit sets the deadline: `idle`, `max_age` or `suspend_ttl`. Where two agree, `max_age` is named."""
        due = self.deadline_ms()
        return None if due is None else self.reason_at(due)

    def reason_at(self, due_ms: int) -> str:
        """The same for a deadline that is known already."""
        if self.suspended_at_ms is not None:
            return "suspend_ttl"
        policy = self.policy
        if policy.max_age_ms is not None and self.created_at_ms + policy.max_age_ms + self.suspended_ms == due_ms:
            return "max_age"
        return "idle"

    def is_due(self, at_ms: int) -> bool:
        """Whether it is due at log time `at_ms`."""
        due = self.deadline_ms()
        return due is not None and at_ms >= due

    def held_at(self, at_ms: int) -> bool:
        """Whether a lease is live at `at_ms`."""
        return self.leases is not None and any(until_ms > at_ms for until_ms in self.leases.values())


class Ending(NamedTuple):
    """How a session ended."""

    reason: str
    at_ms: int
    partition: int
    offset: int
    """The record that ended it, or that settled it at its deadline."""


class AttributeSource(Protocol):
    """Where the attributes of sessions are, and what is known of the session before one."""

    def load(self, partition: int, session: Session) -> Mapping[str, Any]:
        """The attributes of a session, from wherever they are."""
        ...

    def previous(self, session: Session) -> SessionEnd | None:
        """How the session under the same key that came before one ended."""
        ...


class SessionView:
    """A session as a caller sees it, at the moment it was read. It does not change afterwards.

    Attributes that have left memory for the disk are fetched when they are first asked for.
    """

    __slots__ = ("_attributes", "_session", "_source", "partition")

    def __init__(
        self, session: Session, partition: int, attributes: Mapping[str, Any] | None, source: AttributeSource
    ) -> None:
        # The copy shares what never changes in place: keys, the policy, and the leases, which are replaced as a whole.
        # (`copy.copy` would find this method too, by a search that costs more than the copy.)
        self._session: Session = session.__copy__()  # type: ignore[attr-defined]
        self._attributes = attributes
        self._source = source
        self.partition = partition

    @property
    def key(self) -> str:
        """What the session is about: at most one lives under a key."""
        return self._session.key

    @property
    def session_id(self) -> str:
        """This very session, among all that ever lived under the key."""
        return self._session.session_id

    @property
    def status(self) -> Status:
        """What it is doing."""
        return self._session.status

    @property
    def version(self) -> int:
        """How many events have been applied to it."""
        return self._session.version

    @property
    def policy(self) -> Policy:
        """The limits it lives under."""
        return self._session.policy

    @property
    def owner(self) -> str | None:
        """Its attribute `owner`, if that is text."""
        return self._session.owner

    @property
    def created_at_ms(self) -> int:
        """The log time of its beginning."""
        return self._session.created_at_ms

    @property
    def last_active_at_ms(self) -> int:
        """The log time of its last activity."""
        return self._session.last_active_at_ms

    @property
    def suspended_at_ms(self) -> int | None:
        """The log time at which it was suspended; `None` if it is active."""
        return self._session.suspended_at_ms

    @property
    def suspended_ms(self) -> int:
        """Time that it spent suspended before; it does not count towards `max_age_ms`."""
        return self._session.suspended_ms

    @property
    def holders(self) -> dict[str, int]:
        """Who holds it, and the log time until which."""
        return dict(self._session.leases or {})

    @property
    def position(self) -> Position:
        """The record of its last activity."""
        return Position(self.partition, self._session.last_active_offset)

    @property
    def born_offset(self) -> int:
        """The offset of the record that began it."""
        return self._session.born_offset

    @property
    def deadline_ms(self) -> int | None:
        """The log time at which it is due; `None` if no limit applies."""
        return self._session.deadline_ms()

    @property
    def deadline_reason(self) -> str | None:
        """Which limit sets the deadline: `idle`, `max_age` or `suspend_ttl`."""
        return self._session.deadline_reason()

    @property
    def is_whole(self) -> bool:
        """Whether the attributes are here, so that asking for them does not wait for the disk."""
        return self._attributes is not None

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The state that services keep with the session."""
        if self._attributes is None:
            self._attributes = self._source.load(self.partition, self._session)
        return self._attributes

    @property
    def previous(self) -> SessionEnd | None:
        """How the session ended that lived under this key before; `None` if there was none, or none is known any more.

        It is looked up in the history when it is asked for. `engine.messages_as_of(key, previous.ended_at_ms - 1)` has
        its messages. Raises `SnapshotError` and `EngineClosed`.
        """
        return self._source.previous(self._session)

    def as_dict(self) -> dict[str, Any]:
        """The session as plain JSON values."""
        return {
            "key": self.key,
            "session_id": self.session_id,
            "status": self.status.value,
            "version": self.version,
            "owner": self.owner,
            "created_at_ms": self.created_at_ms,
            "last_active_at_ms": self.last_active_at_ms,
            "deadline_ms": self.deadline_ms,
            "deadline_reason": self.deadline_reason,
            "holders": self.holders,
            "position": list(self.position),
            "policy": msgspec.to_builtins(self.policy),
            "attributes": dict(self.attributes),
        }

    def __repr__(self) -> str:
        return f"<SessionView {self.key!r} {self.status.value} version={self.version} deadline_ms={self.deadline_ms}>"


__all__ = ["HOUR_MS", "MAX_HOLDERS", "Ending", "Milliseconds", "Policy", "Session", "SessionView", "Status", "limit_of"]

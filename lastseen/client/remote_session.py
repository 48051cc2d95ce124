"""Sessions as a client of the service sees them: what `SessionView` shows, at the moment when the answer was made."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from lastseen.engine.log.port import Position
from lastseen.engine.session import Policy, Status


class RemoteSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session, with the attributes of an engine's `SessionView`. It does not change."""

    key: str
    """What the session is about: at most one lives under a key."""
    session_id: str
    """This very session, among all that ever lived under the key."""
    status: Status
    """What it is doing."""
    version: int
    """How many events have been applied to it."""
    owner: str | None
    """Its attribute `owner`, if that is text."""
    created_at_ms: int
    """The log time of its beginning."""
    last_active_at_ms: int
    """The log time of its last activity."""
    deadline_ms: int | None
    """The log time at which it is due; `None` if no limit applies."""
    deadline_reason: Literal["idle", "max_age", "suspend_ttl"] | None
    """Which limit sets the deadline."""
    holders: dict[str, int]
    """Who holds it, and the log time until which."""
    position: Position
    """The record of its last activity."""
    policy: Policy
    """The limits it lives under."""
    attributes: dict[str, Any]
    """The state that services keep with the session."""

    @property
    def partition(self) -> int:
        """The partition of the log that it is in."""
        return self.position.partition

    def as_dict(self) -> dict[str, Any]:
        """The session as plain JSON values."""
        return {**msgspec.to_builtins(self), "position": list(self.position)}


class RemotePage(NamedTuple):
    """One page of a listing; `cursor` fetches the next, and is `None` on the last."""

    sessions: list[RemoteSession]
    cursor: str | None

    def __bool__(self) -> bool:
        return bool(self.sessions)


class PlannedEnd(msgspec.Struct, frozen=True, kw_only=True):
    """A session that a plan ends, or has ended."""

    key: str
    session_id: str
    partition: int
    reason: str
    """`idle`, `max_age`, `suspend_ttl` or `capacity`."""
    deadline_ms: int
    version: int
    outcome: Literal["ended", "kept"] | None = None
    """Of a plan that was carried out: whether it ended, or was used meanwhile. Else `None`."""


class SparedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is older than those that end, and is spared."""

    key: str
    session_id: str
    partition: int
    guard: str
    """What spares it: `suspended`, or `held` by a job."""
    over_since_ms: int | None = None
    """When its idle limit would have ended it."""


class RemotePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass of the pruner would end, soonest due first, and what it spares; or what it has ended."""

    plan: str
    """The service's name for it."""
    due: list[PlannedEnd]
    due_total: int
    """How many are due, if that is more than one plan ends."""
    spared: list[SparedSession]
    spared_total: int

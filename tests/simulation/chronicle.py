"""What happened, as a list; every question about a session is answered by looking through it. No state is kept.

This is section 4 of the design read a second time, and shares no code with the engine: a session's deadline, its leases
and its version at a place in the log are computed from the records that took effect before that place.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

LIMITS = {
    "idle_ttl_ms": None,
    "max_age_ms": None,
    "suspend_ttl_ms": None,
    "touch_precision_ms": 0,
    "max_messages": 1000,
}
DEFAULTS = LIMITS | {"max_hold_ms": 3_600_000}
ACTIVITY = ("created", "touched", "resumed")


class Entry(NamedTuple):
    """A record that took effect."""

    offset: int
    at_ms: int
    name: str
    data: dict[str, Any]
    event_id: str


class End(NamedTuple):
    """How a session ended."""

    offset: int
    at_ms: int
    reason: str


class Said(NamedTuple):
    """A record as it can be read: an event, or the verdict on what is none."""

    offset: int
    at_ms: int
    key: str | None
    event: dict[str, Any] | None
    label: str | None

    @property
    def name(self) -> str:
        """The event's short name."""
        return "" if self.event is None else str(self.event["type"]).split(".")[2]

    @property
    def sent_ms(self) -> int:
        """When its producer says it was sent."""
        assert self.event is not None
        moment = datetime.fromisoformat(self.event["time"])
        return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


def read(offset: int, at_ms: int, key: str | None, value: bytes | None, label: str | None) -> Said:
    """A record; `label` is the verdict on one that was made rotten."""
    if label is not None or value is None:
        return Said(offset, at_ms, key, None, label or "malformed")
    return Said(offset, at_ms, key, json.loads(value), None)


class Chronicle:
    """The sessions of one partition, by what took effect."""

    def __init__(self) -> None:
        self.lives: dict[str, list[Entry]] = {}
        """Session id → what took effect on it, its `created` first."""
        self.keys: dict[str, str] = {}
        """Session id → key."""
        self.ends: dict[str, list[End]] = {}
        """Session id → its ends; a session that ends twice is a fault, and seen here."""
        self.of_key: dict[str, list[str]] = {}
        """Key → its sessions in the order of their beginnings."""

    def begins(self, session_id: str, key: str, entry: Entry) -> None:
        """A session begins."""
        self.lives.setdefault(session_id, []).append(entry)
        self.keys[session_id] = key
        self.of_key.setdefault(key, []).append(session_id)

    def takes_effect(self, session_id: str, entry: Entry) -> None:
        """A record takes effect on a session."""
        self.lives.setdefault(session_id, []).append(entry)

    def ends_with(self, session_id: str, end: End) -> None:
        """A session ends."""
        self.ends.setdefault(session_id, []).append(end)

    # ── questions: `before` is the place in the log at which they are asked ──

    def past(self, session_id: str, before: int) -> list[Entry]:
        """What took effect on a session before a place."""
        return [entry for entry in self.lives.get(session_id, []) if entry.offset < before]

    def live(self, key: str, before: int) -> str | None:
        """The session that lives under a key at a place, due or not."""
        for session_id in reversed(self.of_key.get(key, [])):
            if self.past(session_id, before):
                return None if self.ended(session_id, before) else session_id
        return None

    def ended(self, session_id: str, before: int) -> bool:
        """Whether a session has ended before a place."""
        return any(end.offset < before for end in self.ends.get(session_id, []))

    def known(self, session_id: str, before: int) -> bool:
        """Whether a session has ever begun before a place."""
        return bool(self.past(session_id, before))

    def version(self, session_id: str, before: int) -> int:
        """How many records have taken effect."""
        return len(self.past(session_id, before))

    def policy(self, session_id: str, before: int) -> dict[str, Any]:
        """The limits that were given last."""
        given = [
            entry.data["policy"] for entry in self.past(session_id, before) if entry.data.get("policy") is not None
        ]
        return DEFAULTS | given[-1]

    def last_active(self, session_id: str, before: int) -> int:
        """The latest time of any activity."""
        return max(entry.at_ms for entry in self.past(session_id, before) if entry.name in ACTIVITY)

    def last_active_offset(self, session_id: str, before: int) -> int:
        """The place of the last activity."""
        return [entry.offset for entry in self.past(session_id, before) if entry.name in ACTIVITY][-1]

    def suspended_at(self, session_id: str, before: int) -> int | None:
        """Since when it is suspended."""
        turns = [entry for entry in self.past(session_id, before) if entry.name in ("suspended", "resumed")]
        return turns[-1].at_ms if turns and turns[-1].name == "suspended" else None

    def suspended(self, session_id: str, before: int) -> int:
        """How long it was suspended so far."""
        turns = [entry for entry in self.past(session_id, before) if entry.name in ("suspended", "resumed")]
        pairs = zip(turns[::2], turns[1::2], strict=False)
        return sum(max(0, resumed.at_ms - suspended.at_ms) for suspended, resumed in pairs)

    def leases(self, session_id: str, before: int) -> dict[str, int]:
        """Who holds it, and until when; a lease that has lapsed is forgotten when the next is taken."""
        leases: dict[str, int] = {}
        for entry in self.past(session_id, before):
            if entry.name == "suspended":
                leases = {}
            elif entry.name == "released":
                leases = {holder: until for holder, until in leases.items() if holder != entry.data["holder"]}
            elif entry.name == "held":
                longest = self.policy(session_id, entry.offset)["max_hold_ms"]
                asked = entry.data["lease_ms"]
                lease = asked if longest is None else min(asked, longest)
                leases = {holder: until for holder, until in leases.items() if until > entry.at_ms}
                leases[entry.data["holder"]] = entry.at_ms + lease
        return leases

    def owner(self, session_id: str, before: int) -> str | None:
        """What its attribute `owner` was last set to, if that is text."""
        owner = None
        for entry in self.past(session_id, before):
            if "owner" in (entry.data.get("attributes") or {}):
                given = entry.data["attributes"]["owner"]
                owner = given if isinstance(given, str) and 1 <= len(given) <= 512 else None
        return owner

    def attributes(self, session_id: str, before: int) -> dict[str, Any]:
        """What its services keep with it: each touch may set names, and delete them."""
        attributes: dict[str, Any] = {}
        for entry in self.past(session_id, before):
            given = entry.data.get("attributes") or {}
            gone = [name for name, value in given.items() if value is None and entry.name == "touched"]
            attributes = {name: value for name, value in (attributes | given).items() if name not in gone}
        return attributes

    def messages(self, session_id: str, before: int) -> list[str]:
        """The events whose messages are kept with it: the newest, each once."""
        kept: list[str] = []
        for entry in self.past(session_id, before):
            if entry.data.get("message") is not None and entry.event_id not in kept:
                kept.append(entry.event_id)
                most = self.policy(session_id, entry.offset + 1)["max_messages"]
                kept = kept if most is None else kept[-most:]
        return kept

    def deadline(self, session_id: str, before: int) -> tuple[int, str] | None:
        """When a session is due, and by which limit."""
        limits = self.policy(session_id, before)
        suspended_at = self.suspended_at(session_id, before)
        if suspended_at is not None:
            ttl = limits["suspend_ttl_ms"]
            return None if ttl is None else (suspended_at + ttl, "suspend_ttl")
        due = []
        if limits["max_age_ms"] is not None:
            born = self.past(session_id, before)[0].at_ms
            due.append((born + limits["max_age_ms"] + self.suspended(session_id, before), "max_age"))
        if limits["idle_ttl_ms"] is not None:
            idle = self.last_active(session_id, before) + limits["idle_ttl_ms"] + limits["touch_precision_ms"]
            due.append((max([idle, *self.leases(session_id, before).values()]), "idle"))
        return min(due, key=lambda each: each[0], default=None)

    def state(self, session_id: str, before: int) -> dict[str, Any]:
        """Everything that is published of a live session."""
        deadline = self.deadline(session_id, before)
        suspended = self.suspended_at(session_id, before) is not None
        return {
            "key": self.keys[session_id],
            "session_id": session_id,
            "status": "suspended" if suspended else "active",
            "version": self.version(session_id, before),
            "owner": self.owner(session_id, before),
            "created_at_ms": self.past(session_id, before)[0].at_ms,
            "last_active_at_ms": self.last_active(session_id, before),
            "deadline_ms": None if deadline is None else deadline[0],
            "holders": self.leases(session_id, before),
        }

"""The engine as a reader of DESIGN section 4 would write it in an hour: one dict, and a look at everything each time.

It knows no log, no records, no verdicts, no snapshot, no index, no cache. A command returns the session as plain values
or the name of the error.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from lastseen import Policy


@dataclass
class Life:
    """One session, live or over."""

    key: str
    session_id: str
    policy: Policy
    created_ms: int
    last_ms: int
    attributes: dict[str, Any]
    used: int
    partition: int = 0
    version: int = 1
    suspended_ms: int | None = None
    suspended_total_ms: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    messages: list[Any] = field(default_factory=list)
    ended_ms: int | None = None
    reason: str | None = None

    def limits(self) -> list[tuple[int, str]]:
        """When it is due, and why, for each limit that applies."""
        p = self.policy
        if self.suspended_ms is not None:
            return [(self.suspended_ms + p.suspend_ttl_ms, "suspend_ttl")] if p.suspend_ttl_ms else []
        found = []
        if p.max_age_ms:
            found.append((self.created_ms + p.max_age_ms + self.suspended_total_ms, "max_age"))
        if p.idle_ttl_ms:
            idle = self.last_ms + p.idle_ttl_ms + p.touch_precision_ms
            found.append((max([idle, *self.leases.values()]), "idle"))
        return found

    def deadline(self) -> tuple[int, str] | None:
        return min(self.limits(), key=lambda limit: limit[0], default=None)

    def is_due(self, now_ms: int) -> bool:
        return any(at_ms <= now_ms for at_ms, _ in self.limits())

    def end_at(self, now_ms: int) -> tuple[int | None, str | None]:
        """When it has ended and why, as of `now_ms`: one that is due has, though no record says so yet."""
        if self.ended_ms is None and self.is_due(now_ms):
            return self.deadline() or (None, None)
        return self.ended_ms, self.reason

    def end(self, at_ms: int, reason: str) -> None:
        self.ended_ms, self.reason = at_ms, reason

    def owner(self) -> str | None:
        owner = self.attributes.get("owner")
        return owner if isinstance(owner, str) else None

    def shown(self) -> dict[str, Any]:
        deadline = self.deadline()
        return {
            "key": self.key,
            "session_id": self.session_id,
            "status": "active" if self.suspended_ms is None else "suspended",
            "version": self.version,
            "owner": self.owner(),
            "created_at_ms": self.created_ms,
            "last_active_at_ms": self.last_ms,
            "deadline_ms": deadline and deadline[0],
            "deadline_reason": deadline and deadline[1],
            "holders": dict(self.leases),
            "attributes": deepcopy(self.attributes),
        }


class NaiveEngine:
    """All sessions that ever lived, and the time."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.lives: list[Life] = []
        self.uses = 0
        self.past: dict[int, dict[str, tuple[dict[str, Any], list[Any]]]] = {}

    # ── reading ──

    def unended(self) -> list[Life]:
        """Those that nothing has ended yet; they may be due."""
        return [life for life in self.lives if life.ended_ms is None]

    def find(self, key: str) -> Life | None:
        return next((life for life in self.unended() if life.key == key), None)

    def visible(self) -> list[Life]:
        return [life for life in self.unended() if not life.is_due(self.now_ms)]

    def by_use(self) -> list[Life]:
        return sorted(self.visible(), key=lambda life: (life.last_ms, life.partition, life.used))

    def remember(self) -> None:
        """What an `as_of` with the present time must say later."""
        self.past[self.now_ms] = {life.key: (life.shown(), list(life.messages)) for life in self.visible()}

    # ── commands ──

    def open(self, key: str, session_id: str, attributes: Any, policy: Policy, partition: int) -> Life:
        life = self.find(key)
        if life is not None and not life.is_due(self.now_ms):
            return life
        self.settle(key)
        return self.begin(key, session_id, attributes, policy, partition)

    def begin(self, key: str, session_id: str, attributes: Any, policy: Policy, partition: int) -> Life:
        self.uses += 1
        life = Life(key, session_id, policy, self.now_ms, self.now_ms, deepcopy(attributes), self.uses, partition)
        self.lives.append(life)
        return life

    def settle(self, key: str) -> None:
        life = self.find(key)
        if life is not None and life.is_due(self.now_ms):
            life.end(*life.deadline())  # type: ignore[misc]

    def refusal(self, key: str, *, wants: str | None = None) -> str | None:
        """Why a command is refused: nothing lives there, or it is not `active` or `suspended` as the command wants."""
        life = self.find(key)
        if life is None:
            return "SessionEnded" if any(ended.key == key for ended in self.lives) else "SessionNotFound"
        if life.is_due(self.now_ms):
            return "SessionEnded"
        if wants == "active" and life.suspended_ms is not None:
            return "SessionSuspended"
        return None

    def use(self, life: Life) -> None:
        self.uses += 1
        life.used, life.last_ms = self.uses, self.now_ms

    def touch(self, key: str, patch: Any = None, message: Any = None, policy: Any = None) -> str | None:
        if refused := self.refusal(key, wants="active"):
            return refused
        life = self.find(key)
        assert life is not None
        if (
            patch is None
            and message is None
            and policy is None
            and (self.now_ms - life.last_ms < life.policy.touch_precision_ms)
        ):
            return None
        self.use(life)
        life.version += 1
        life.policy = policy or life.policy
        for name, value in (patch or {}).items():
            life.attributes.pop(name, None)
            if value is not None:
                life.attributes[name] = value
        if message is not None:
            life.messages.append(message)
            if life.policy.max_messages is not None:
                life.messages = life.messages[-life.policy.max_messages :]
        return None

    def suspend(self, key: str) -> str | None:
        if refused := self.refusal(key):
            return refused
        life = self.find(key)
        assert life is not None
        if life.suspended_ms is not None:
            return "AlreadyDone"
        life.suspended_ms, life.leases = self.now_ms, {}
        life.version += 1
        return None

    def resume(self, key: str) -> str | None:
        if refused := self.refusal(key):
            return refused
        life = self.find(key)
        assert life is not None
        if life.suspended_ms is None:
            return "AlreadyDone"
        life.suspended_total_ms += self.now_ms - life.suspended_ms
        life.suspended_ms = None
        life.version += 1
        self.use(life)
        return None

    def hold(self, key: str, holder: str, lease_ms: int) -> str | None:
        if refused := self.refusal(key, wants="active"):
            return refused
        life = self.find(key)
        assert life is not None
        life.leases = {name: until for name, until in life.leases.items() if until > self.now_ms}
        life.leases[holder] = self.now_ms + min(lease_ms, life.policy.max_hold_ms or lease_ms)
        life.version += 1
        return None

    def release(self, key: str, holder: str) -> str | None:
        if refused := self.refusal(key):
            return refused
        life = self.find(key)
        assert life is not None
        if holder not in life.leases:
            return "AlreadyDone"
        del life.leases[holder]
        life.version += 1
        return None

    def close(self, key: str, reason: str) -> str | None:
        if refused := self.refusal(key):
            return refused
        self.find(key).end(self.now_ms, reason)  # type: ignore[union-attr]
        return None

    def rotate(self, key: str, session_id: str) -> str | None:
        if refused := self.refusal(key):
            return refused
        life = self.find(key)
        assert life is not None
        life.end(self.now_ms, "rotated")
        self.begin(key, session_id, life.attributes, life.policy, life.partition)
        return None

    # ── pruning ──

    def prune(self, max_sessions: int | None) -> list[tuple[str, str]]:
        """End what is due, then the least recently used that are too many; what ended and why, in order."""
        due = sorted((life for life in self.unended() if life.is_due(self.now_ms)), key=lambda life: life.deadline())  # type: ignore[arg-type, return-value]
        for life in due:
            life.end(*life.deadline())  # type: ignore[misc]
        crowd = []
        for life in self.by_use():
            held = any(until > self.now_ms for until in life.leases.values())
            if len(self.unended()) > (max_sessions or 10**9) and life.suspended_ms is None and not held:
                life.end(self.now_ms, "capacity")
                crowd.append(life)
        return [(life.session_id, str(life.reason)) for life in [*due, *crowd]]

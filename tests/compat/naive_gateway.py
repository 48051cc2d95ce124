"""The old store as documented, in a dictionary, with the differences of docs/how-to/compat-gateway.md, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

DAY_MS = 86_400_000


@dataclass
class NaiveEntry:
    """What the old store kept of a session; times in milliseconds."""

    life: int
    """Each begins once."""
    conversation: int
    created_ms: int
    updated_ms: int
    name: str | None
    tokens: int = 0
    suspended_ms: int | None = None
    is_pending: bool = False
    is_finalized: bool = False
    is_fresh: bool = False
    marked_ms: int = 0
    said: bool = False


@dataclass(frozen=True)
class NaivePolicy:
    """When a session is reset."""

    mode: str
    at_hour: int
    idle_minutes: int

    def reason(self, updated_ms: int, now_ms: int) -> str | None:
        """Why it is reset, if it is."""
        if self.mode in ("idle", "both") and now_ms - updated_ms > self.idle_minutes * 60_000:
            return "idle"
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        today = now.replace(hour=self.at_hour, minute=0, second=0, microsecond=0)
        reset = today if now >= today else today - timedelta(days=1)
        if self.mode in ("daily", "both") and updated_ms < reset.timestamp() * 1000:
            return "daily"
        return None


class NaiveStore:
    """A dictionary of entries."""

    def __init__(self, policy: NaivePolicy, suspend_days: int) -> None:
        self.policy = policy
        self.suspend_days = suspend_days
        self.entries: dict[str, NaiveEntry] = {}
        self.busy: set[str] = set()
        self.unsure: set[str] = set()
        """Keys for which the gateway's answer fails."""
        self.conversations = 0
        self.begun = 0

    def _is_kept(self, key: str) -> bool:
        return key in self.busy or key in self.unsure  # doubt keeps a session

    def settle(self, now_ms: int) -> None:
        """A suspended session still has an end."""
        for key, entry in list(self.entries.items()):
            if entry.suspended_ms is not None and now_ms - entry.suspended_ms >= self.suspend_days * DAY_MS:
                del self.entries[key]

    def _new(self, key: str, now_ms: int, name: str | None, conversation: int | None = None) -> NaiveEntry:
        if conversation is None:
            self.conversations += 1
            conversation = self.conversations
        self.begun += 1
        self.entries[key] = NaiveEntry(self.begun, conversation, now_ms, now_ms, name)
        return self.entries[key]

    def message(self, key: str, name: str, now_ms: int, force_new: bool) -> tuple[NaiveEntry, str | None, bool]:
        """The entry, why the last one was reset, and whether that had activity."""
        entry = self.entries.get(key)
        if entry is None or force_new:
            return replace(self._new(key, now_ms, name)), None, False
        if entry.suspended_ms is not None:
            reason: str | None = "suspended"
        elif entry.is_pending or self._is_kept(key):
            reason = None
        else:
            reason = self.policy.reason(entry.updated_ms, now_ms)
        if reason is not None:
            return replace(self._new(key, now_ms, name)), reason, entry.tokens > 0 or entry.said
        entry.updated_ms = now_ms
        reported = replace(entry)
        entry.is_fresh = False  # a reset is reported once
        return reported, None, False

    def update(self, key: str, tokens: int | None, now_ms: int) -> None:
        """Use, unless it is suspended."""
        entry = self.entries.get(key)
        if entry is not None and entry.suspended_ms is None:
            entry.updated_ms = now_ms
            entry.tokens = entry.tokens if tokens is None else tokens

    def reset(self, key: str, now_ms: int, name: str | None) -> NaiveEntry | None:
        """A fresh session."""
        old = self.entries.get(key)
        if old is None:
            return None
        new = self._new(key, now_ms, old.name if name is None else name)
        new.is_fresh = True
        return new

    def switch(self, key: str, conversation: int, now_ms: int) -> NaiveEntry | None:
        """Another conversation."""
        old = self.entries.get(key)
        if old is None or old.conversation == conversation:
            return old
        return self._new(key, now_ms, old.name, conversation)

    def suspend(self, key: str, now_ms: int) -> bool:
        """Park."""
        entry = self.entries.get(key)
        if entry is not None and entry.suspended_ms is None:
            entry.suspended_ms = now_ms
        return entry is not None

    def resume(self, key: str, now_ms: int) -> bool:
        """Take up again."""
        entry = self.entries.get(key)
        if entry is None or entry.suspended_ms is None:
            return False
        entry.suspended_ms, entry.updated_ms = None, now_ms
        return True

    def mark(self, key: str, is_pending: bool, now_ms: int) -> bool:
        """Mark as pending, or clear that; a suspended session takes none."""
        entry = self.entries.get(key)
        if entry is None or entry.suspended_ms is not None or not (is_pending or entry.is_pending):
            return False
        entry.is_pending, entry.marked_ms = is_pending, now_ms
        return True

    def finalize(self, key: str, life: int, now_ms: int) -> bool:
        """Save a mark in an entry that was read in this life: a stale save reaches no other."""
        entry = self.entries.get(key)
        if entry is None or entry.life != life or entry.suspended_ms is not None:
            return False
        entry.is_finalized, entry.marked_ms = True, now_ms
        return True

    def prune(self, days: int, now_ms: int) -> int:
        """Drop what was not used for longer; marks put it off."""
        if days <= 0:
            return 0
        old = [
            key
            for key, entry in self.entries.items()
            if max(entry.updated_ms, entry.marked_ms) < now_ms - days * DAY_MS
            and entry.suspended_ms is None
            and not self._is_kept(key)
        ]
        for key in old:
            del self.entries[key]
        return len(old)

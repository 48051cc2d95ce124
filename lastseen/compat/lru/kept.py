"""Sessions in memory only, as the predecessor kept them: nothing is written, and nothing outlives the process.

A log in memory takes 14 times as much CPU time for a read and 24 to 33 times for a change, grows with every use, and is
never read. So this is the engine's session state under the engine's own rules (when it is due, by which limit, what a
touch does), without events.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from typing import Any

from lastseen.compat.lru.limits import LruLimits
from lastseen.compat.lru.store import REASONS, Found
from lastseen.engine import events, lifecycle
from lastseen.engine.clock import Clock
from lastseen.engine.codec import check_key
from lastseen.engine.errors import EngineClosed
from lastseen.engine.session import Policy, Session, pack_beginning

_CAUSES: dict[str | None, str] = {reason: cause for cause, reason in REASONS.items()}
_SESSION_ID = "a-session-of-this-memory"
"""Ids tell sessions of one key apart in a log; here there is none."""
_TOUCH = events.Touched(
    id="touch",
    source="/lastseen/compat/lru",
    subject="any",
    time="1970-01-01T00:00:00Z",
    data=events.TouchedData(session_id=_SESSION_ID),
)
"""One serves every use: the rules ask an event what it says, and a use says nothing."""


class _Entry:
    __slots__ = ("found", "messages", "session")

    def __init__(self, session: Session, value: Any) -> None:
        self.session = session
        self.found = Found(value)
        self.messages: deque[Any] | None = None


class KeptSessions:
    """Sessions in two orders: by last use, and by when their values were set. What is over stands at either front."""

    def __init__(self, limits: LruLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._policy = Policy(idle_ttl_ms=limits.inactive_ttl_ms, max_age_ms=limits.session_ttl_ms)
        self._by_use: OrderedDict[str, _Entry] = OrderedDict()
        self._by_age: OrderedDict[str, _Entry] = OrderedDict()
        self._now_ms = 0
        """The latest time of a change: like log time it never goes back, or the orders would not be those of time."""
        self._evictions: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._lock = threading.Lock()
        self._is_closed = False

    # ── `lru_store.Store` ──

    def read(self, key: str) -> Found | None:
        """The session, untouched."""
        with self._lock:
            entry = self._find(key)
            return None if entry is None else entry.found

    def use(self, key: str) -> Found | None:
        """The session, which is the most recently used from now on."""
        with self._lock:
            entry = self._used(key)
            return None if entry is None else entry.found

    def put(self, key: str, value: Any) -> None:
        """Set a session's value. Raises `InvalidKey`."""
        check_key(key)
        with self._lock:
            entry = self._find(key)
            if entry is None:
                self._end_if_over(key)
                self._by_use[key] = self._by_age[key] = _Entry(self._begun(key), value)
                if len(self._by_use) > self._limits.max_sessions:
                    self._remove_over()
            else:
                # Both of its clocks begin again, as if it were another; its messages stay.
                entry.session, entry.found = self._begun(key), Found(value)
                self._by_use.move_to_end(key)
                self._by_age.move_to_end(key)

    def drop(self, key: str) -> bool:
        """Remove a session; whether it was there."""
        with self._lock:
            if self._find(key) is None:
                return False
            del self._by_use[key], self._by_age[key]
            return True

    def items(self) -> list[tuple[str, Any]]:
        """Every session, least recently used first, untouched."""
        with self._lock:
            return [(entry.session.key, entry.found.value) for entry in self._live()]

    def count(self) -> int:
        """How many are there. Those that are over and not removed yet are looked at, the others are not."""
        with self._lock:
            self._check_open()
            over = self._over(self._clock.now_ms())
            return len(self._by_use) - len(over)

    def messages(self, key: str) -> list[Any] | None:
        """The session's newest messages, oldest first, untouched."""
        with self._lock:
            entry = self._find(key)
            return None if entry is None or entry.messages is None else list(entry.messages)

    def add_message(self, key: str, message: Any) -> bool:
        """Add one message; whether the session is there."""
        with self._lock:
            entry = self._used(key)
            if entry is None:
                return False
            if entry.messages is None:
                entry.messages = self._ring(())
            entry.messages.append(message)
            return True

    def put_messages(self, key: str, messages: Sequence[Any] | None) -> bool:
        """Replace the messages, or forget them; whether the session is there."""
        with self._lock:
            entry = self._used(key)
            if entry is None:
                return False
            entry.messages = None if messages is None else self._ring(messages)
            return True

    def with_messages(self) -> list[str]:
        """The sessions whose messages were set, least recently used first."""
        with self._lock:
            return [entry.session.key for entry in self._live() if entry.messages is not None]

    def sweep(self) -> int:
        """Remove what is over; returns how many."""
        with self._lock:
            self._check_open()
            return self._remove_over()

    def relieve(self, count: int) -> int:
        """Remove so many, least recently used first."""
        with self._lock:
            self._check_open()
            count = min(count, len(self._by_use))
            for _ in range(count):
                self._evict_first("memory")
            return count

    def evictions(self) -> dict[str, int]:
        """How many sessions went, by cause."""
        with self._lock:
            return dict(self._evictions)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._is_closed = True
            self._by_use.clear()
            self._by_age.clear()

    # ── inside the lock ──

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed("these sessions have been shut down: make a new LruSessions")

    def _find(self, key: str) -> _Entry | None:
        if self._is_closed:
            self._check_open()
        entry = self._by_use.get(key)
        return None if entry is None or entry.session.is_due(self._clock.now_ms()) else entry

    def _used(self, key: str) -> _Entry | None:
        entry = self._find(key)
        if entry is not None:
            lifecycle.apply(entry.session, _TOUCH, self._later(), 0)
            self._by_use.move_to_end(key)
        return entry

    def _later(self) -> int:
        self._now_ms = max(self._now_ms, self._clock.now_ms())
        return self._now_ms

    def _begun(self, key: str) -> Session:
        now_ms = self._later()
        return Session(
            key=key,
            session_id=_SESSION_ID,
            policy=self._policy,
            began=pack_beginning(now_ms, 0),
            last_active_at_ms=now_ms,
            last_active_offset=0,
        )

    def _live(self) -> list[_Entry]:
        self._check_open()
        now_ms = self._clock.now_ms()
        return [entry for entry in self._by_use.values() if not entry.session.is_due(now_ms)]

    def _ring(self, messages: Sequence[Any]) -> deque[Any]:
        return deque(messages, maxlen=self._limits.max_messages_per_session)

    def _over(self, now_ms: int) -> dict[str, _Entry]:
        """The expired sessions: the first ones of either order."""
        over: dict[str, _Entry] = {}
        for order in (self._by_use, self._by_age):
            for key, entry in order.items():
                # In one order behind the first that is not over there are none that this order's limit has ended.
                if not entry.session.is_due(now_ms):
                    break
                over[key] = entry
        return over

    def _remove_over(self) -> int:
        """Remove what is over, and then what is too much."""
        over = self._over(self._clock.now_ms())
        for entry in over.values():
            self._end(entry)
        crowd = len(self._by_use) - self._limits.max_sessions
        for _ in range(crowd):
            self._evict_first("capacity")
        return len(over) + max(crowd, 0)

    def _end_if_over(self, key: str) -> None:
        entry = self._by_use.get(key)
        if entry is not None:
            self._end(entry)

    def _end(self, entry: _Entry) -> None:
        self._evictions[_CAUSES[entry.session.deadline_reason()]] += 1
        del self._by_use[entry.session.key], self._by_age[entry.session.key]

    def _evict_first(self, cause: str) -> None:
        key, _ = self._by_use.popitem(last=False)
        del self._by_age[key]
        self._evictions[cause] += 1

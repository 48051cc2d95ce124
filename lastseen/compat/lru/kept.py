"""Sessions in memory only, as the predecessor kept them: nothing is written, and nothing outlives the process.

A log in memory would do the same work ten times slower, grow with every use, and be read by nobody. So these sessions
follow the engine's rules without its log: the same deadlines, the same order, the same causes.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from typing import Any

from lastseen.compat.lru.limits import LruLimits
from lastseen.compat.lru.store import CAUSES, Found
from lastseen.engine.clock import Clock
from lastseen.engine.codec import check_key
from lastseen.engine.errors import EngineClosed

_NEVER_MS = 2**62


class _Entry:
    __slots__ = ("found", "key", "messages", "started_ms", "used_ms")

    def __init__(self, key: str, now_ms: int) -> None:
        self.key = key
        self.found = Found(None)
        self.messages: deque[Any] | None = None
        self.started_ms = now_ms
        self.used_ms = now_ms


class KeptSessions:
    """Sessions in two orders: by last use, and by when their values were set. What is over stands at either front."""

    def __init__(self, limits: LruLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._session_ttl_ms = limits.session_ttl_ms or _NEVER_MS
        self._inactive_ttl_ms = limits.inactive_ttl_ms or _NEVER_MS
        self._by_use: OrderedDict[str, _Entry] = OrderedDict()
        self._by_age: OrderedDict[str, _Entry] = OrderedDict()
        self._now_ms = 0
        """The latest time of a change: like log time it never goes back, or the orders would not be those of time."""
        self._evictions: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
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
            entry = self._used(key)
            if entry is None:
                self._end_if_over(key)
                entry = self._by_use[key] = self._by_age[key] = _Entry(key, self._later())
                if len(self._by_use) > self._limits.max_sessions:
                    self._remove_over()
            else:
                self._by_age.move_to_end(key)
            entry.started_ms = entry.used_ms
            entry.found = Found(value)

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
            return [(entry.key, entry.found.value) for entry in self._live()]

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
            return [entry.key for entry in self._live() if entry.messages is not None]

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
            raise EngineClosed("these sessions were shut down: make others")

    def _find(self, key: str) -> _Entry | None:
        if self._is_closed:
            self._check_open()
        entry = self._by_use.get(key)
        return None if entry is None or self._due_ms(entry) <= self._clock.now_ms() else entry

    def _used(self, key: str) -> _Entry | None:
        entry = self._find(key)
        if entry is not None:
            entry.used_ms = self._later()
            self._by_use.move_to_end(key)
        return entry

    def _later(self) -> int:
        self._now_ms = max(self._now_ms, self._clock.now_ms())
        return self._now_ms

    def _due_ms(self, entry: _Entry) -> int:
        return min(entry.started_ms + self._session_ttl_ms, entry.used_ms + self._inactive_ttl_ms)

    def _live(self) -> list[_Entry]:
        self._check_open()
        now_ms = self._clock.now_ms()
        return [entry for entry in self._by_use.values() if self._due_ms(entry) > now_ms]

    def _ring(self, messages: Sequence[Any]) -> deque[Any]:
        return deque(messages, maxlen=self._limits.max_messages_per_session)

    def _over(self, now_ms: int) -> dict[str, _Entry]:
        """What is over: a stretch at the front of either order."""
        over: dict[str, _Entry] = {}
        for order in (self._by_use, self._by_age):
            for key, entry in order.items():
                # In one order behind the first that is not over there are none that this order's limit has ended.
                if self._due_ms(entry) > now_ms:
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
        by_age = entry.started_ms + self._session_ttl_ms <= entry.used_ms + self._inactive_ttl_ms
        self._evictions["session_ttl" if by_age else "inactive_ttl"] += 1
        del self._by_use[entry.key], self._by_age[entry.key]

    def _evict_first(self, cause: str) -> None:
        key, _ = self._by_use.popitem(last=False)
        del self._by_age[key]
        self._evictions[cause] += 1

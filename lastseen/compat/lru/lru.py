"""The LRU memory's drop-in: a mapping of sessions, and one of their messages, that hold what they say they hold.

    from lastseen.compat.lru import LruSessions

    sessions = LruSessions(max_sessions=100)
    sessions["conversation-1"] = {"user": "ana"}
    sessions.messages.append("conversation-1", {"role": "user", "text": "hello"})

Without a URL everything is in memory, as the predecessor had it; with the URL of a log it is in that log, and outlives
the process. What the predecessor did otherwise is listed in docs/how-to/compat-lru.md.
"""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, Sequence, ValuesView
from types import TracebackType
from typing import Any, Self, TypedDict

from lastseen.compat.interval import Interval
from lastseen.compat.lru.kept import KeptSessions
from lastseen.compat.lru.limits import LruLimits
from lastseen.compat.lru.logged import LoggedSessions
from lastseen.compat.lru.store import Store
from lastseen.embedded.memory_pressure import PRESSURE_THRESHOLD, MemoryPressure
from lastseen.embedded.opening import open_engine
from lastseen.engine.clock import Clock, SystemClock

IN_MEMORY = "memory://"
_RELIEVED_SHARE = 4
"""Under memory pressure a clean-up drops one session in so many."""
_DEFAULTS = LruLimits()


class LruStatistics(TypedDict):
    """What `statistics` returns."""

    size: int
    max_sessions: int
    hits: int
    """Reads that found their session, by this object."""
    misses: int
    """Reads that did not."""
    hit_rate: float
    evictions: dict[str, int]
    """Sessions that went, by cause: `capacity`, `memory`, `session_ttl`, `inactive_ttl`; on a log, since it began."""


class LruSessions(MutableMapping[str, Any]):
    """Sessions by key, at most `max_sessions` of them. Safe to call from many threads.

    Reading a value by its key, setting it, and adding messages are uses; `in`, `peek`, `len` and iteration are none.
    Iteration goes from the least to the most recently used, over what is there when it begins.
    """

    def __init__(
        self,
        max_sessions: int = _DEFAULTS.max_sessions,
        max_messages_per_session: int = _DEFAULTS.max_messages_per_session,
        session_ttl_ms: int | None = _DEFAULTS.session_ttl_ms,
        inactive_ttl_ms: int | None = _DEFAULTS.inactive_ttl_ms,
        cleanup_interval_ms: int = _DEFAULTS.cleanup_interval_ms,
        *,
        url: str = IN_MEMORY,
        clock: Clock | None = None,
        max_memory_bytes: int | None = None,
    ) -> None:
        """Make a memory, or open the one in the log at `url`.

        `max_memory_bytes` is the process's limit, of which 80% may be in use; `None` takes the cgroup's, or the
        machine's. Raises `InvalidSetting`, and what `lastseen.open_engine` raises.
        """
        self.limits = LruLimits(
            max_sessions=max_sessions,
            max_messages_per_session=max_messages_per_session,
            session_ttl_ms=session_ttl_ms,
            inactive_ttl_ms=inactive_ttl_ms,
            cleanup_interval_ms=cleanup_interval_ms,
        )
        clock = clock or SystemClock()
        self._store: Store = _opened(url, self.limits, clock)
        self.messages = LruMessages(self, self._store)
        self._pressure = MemoryPressure(max_memory_bytes)
        self._hits = self._misses = 0
        self._counting = threading.Lock()
        self._admitting = threading.Lock()
        self._interval = Interval(clock, cleanup_interval_ms, self.cleanup, "lru-cleanup")

    @classmethod
    def of_section(
        cls,
        section: Mapping[str, Any],
        *,
        url: str = IN_MEMORY,
        clock: Clock | None = None,
        max_memory_bytes: int | None = None,
    ) -> Self:
        """A memory with the limits of the predecessor's JSON configuration section. Raises `InvalidSetting`."""
        limits = LruLimits.of_section(section)
        return cls(
            limits.max_sessions,
            limits.max_messages_per_session,
            limits.session_ttl_ms,
            limits.inactive_ttl_ms,
            limits.cleanup_interval_ms,
            url=url,
            clock=clock,
            max_memory_bytes=max_memory_bytes,
        )

    # ── the mapping ──

    def __getitem__(self, key: str) -> Any:
        found = self._store.use(key)
        self.counted(found is not None)
        if found is None:
            raise KeyError(key)
        return found.value

    def __setitem__(self, key: str, value: Any) -> None:
        with self._admitting:  # so that no caller sees one session too many
            self._store.put(key, value)

    def __delitem__(self, key: str) -> None:
        if not self._store.drop(key):
            raise KeyError(key)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a session and return its value. One event on a log, where the mapping's own would be two."""
        found = self._store.read(key)
        is_hit = found is not None and self._store.drop(key)
        self.counted(is_hit)
        if found is not None and is_hit:
            return found.value
        if not default:
            raise KeyError(key)
        return default[0]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._store.read(key) is not None

    def __len__(self) -> int:
        with self._admitting:
            return self._store.count()

    def __iter__(self) -> Iterator[str]:
        return iter([key for key, _ in self._store.items()])

    def items(self) -> ItemsView[str, Any]:
        """Keys and values, untouched."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Values, untouched."""
        return _Values(self)

    def peek(self, key: str, default: Any = None) -> Any:
        """The value, untouched and uncounted; `default` if there is no such session."""
        found = self._store.read(key)
        return default if found is None else found.value

    def clear(self) -> None:
        """Remove every session."""
        for key in self:
            self._store.drop(key)

    def pairs(self) -> list[tuple[str, Any]]:
        """Keys and values as they are now, least recently used first, untouched."""
        return self._store.items()

    # ── clean-up and figures ──

    def cleanup(self) -> int:
        """Remove what is over or too much, and under memory pressure a quarter of the rest; returns how many went.

        Runs by itself every `cleanup_interval_ms`. Touches nothing; costs what goes, not what stays.
        """
        with self._admitting:
            removed = self._store.sweep()
            if self._pressure.share() > PRESSURE_THRESHOLD:
                count = self._store.count()
                removed += self._store.relieve(-(-count // _RELIEVED_SHARE)) if count else 0
            return removed

    def counted(self, is_hit: bool) -> None:
        """Count a read."""
        with self._counting:
            if is_hit:
                self._hits += 1
            else:
                self._misses += 1

    def statistics(self) -> LruStatistics:
        """Hits, misses and evictions by cause."""
        size, evictions = len(self), self._store.evictions()
        with self._counting:
            hits, misses = self._hits, self._misses
        return {
            "size": size,
            "max_sessions": self.limits.max_sessions,
            "hits": hits,
            "misses": misses,
            "hit_rate": hits / (hits + misses) if hits + misses else 0.0,
            "evictions": evictions,
        }

    def shutdown(self) -> None:
        """Stop cleaning up and free the memory; a log keeps what is in it. May be called again."""
        self._interval.stop()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()


class LruMessages(MutableMapping[str, list[Any]]):
    """The messages of the sessions of an `LruSessions`: at most `max_messages_per_session` each, the newest.

    A key is here while its session is there and its messages were set. Reading them by key, setting, adding
    and deleting them are uses of the session.
    """

    def __init__(self, sessions: LruSessions, store: Store) -> None:
        self._sessions = sessions
        self._store = store

    def append(self, key: str, message: Any) -> None:
        """Add one message. Raises `KeyError` where no such session is there."""
        if not self._store.add_message(key, message):
            raise KeyError(key)

    def __getitem__(self, key: str) -> list[Any]:
        messages = self._store.messages(key)
        if messages is not None and self._store.use(key) is None:
            messages = None
        self._sessions.counted(messages is not None)
        if messages is None:
            raise KeyError(key)
        return messages

    def __setitem__(self, key: str, messages: Sequence[Any]) -> None:
        if not self._store.put_messages(key, messages):
            raise KeyError(key)

    def __delitem__(self, key: str) -> None:
        if self._store.messages(key) is None or not self._store.put_messages(key, None):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._store.messages(key) is not None

    def __len__(self) -> int:
        return len(self._store.with_messages())

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.with_messages())

    def items(self) -> ItemsView[str, list[Any]]:
        """Keys and messages, untouched."""
        return _Items(self)

    def values(self) -> ValuesView[list[Any]]:
        """Messages, untouched."""
        return _Values(self)

    def peek(self, key: str, default: Any = None) -> Any:
        """The messages, untouched and uncounted; `default` if there are none."""
        messages = self._store.messages(key)
        return default if messages is None else messages

    def pairs(self) -> list[tuple[str, list[Any]]]:
        """Keys and messages as they are now, in the order of their sessions, untouched."""
        found = ((key, self._store.messages(key)) for key in self._store.with_messages())
        return [(key, messages) for key, messages in found if messages is not None]


_Untouched = LruSessions | LruMessages


class _Items(ItemsView[str, Any]):
    """`items()` that touch nothing, where the mapping's own would use every session."""

    _mapping: _Untouched

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._mapping.pairs())

    def __contains__(self, item: object) -> bool:
        return isinstance(item, tuple) and item in self._mapping.pairs()


class _Values(ValuesView[Any]):
    """`values()` that touch nothing."""

    _mapping: _Untouched

    def __iter__(self) -> Iterator[Any]:
        return iter([value for _, value in self._mapping.pairs()])

    def __contains__(self, value: object) -> bool:
        return any(value == each for each in self)


def _opened(url: str, limits: LruLimits, clock: Clock) -> Store:
    if url == IN_MEMORY:
        return KeptSessions(limits, clock)
    # The engine's own pruner would remove sessions before a clean-up could count them.
    engine = open_engine(url, clock=clock, prune=False, max_sessions=limits.max_sessions)
    return LoggedSessions(engine, limits, clock)

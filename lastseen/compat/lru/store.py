"""Where the LRU memory keeps its sessions: the port that `lru_kept` (in memory) and `lru_logged` (a log) both serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

REASONS = {"capacity": "capacity", "memory": "memory", "session_ttl": "max_age", "inactive_ttl": "idle"}
"""Why a session goes without being deleted: the predecessor's causes, and the engine's reasons."""


class Found(NamedTuple):
    """The value of a session that is there; the value itself may be `None`."""

    value: Any


class Store(Protocol):
    """Sessions by key, least recently used first, each with a value and, if they were set, messages.

    Safe to call from many threads. A session that is over is not there, whether or not it was removed yet.
    """

    def read(self, key: str) -> Found | None:
        """The session, untouched."""
        ...

    def use(self, key: str) -> Found | None:
        """The session, which is the most recently used from now on."""
        ...

    def put(self, key: str, value: Any) -> None:
        """Set a session's value. Its clocks restart; a new session may push others out."""
        ...

    def drop(self, key: str) -> bool:
        """Remove a session; whether it was there."""
        ...

    def items(self) -> list[tuple[str, Any]]:
        """Every session, least recently used first, untouched."""
        ...

    def count(self) -> int:
        """How many are there."""
        ...

    def messages(self, key: str) -> list[Any] | None:
        """The session's newest messages, oldest first, untouched; `None` if it is not there, or none were ever set."""
        ...

    def add_message(self, key: str, message: Any) -> bool:
        """Add one message, which is a use of the session; whether the session is there."""
        ...

    def put_messages(self, key: str, messages: Sequence[Any] | None) -> bool:
        """Replace the messages, or forget them; a use of the session; whether the session is there."""
        ...

    def with_messages(self) -> list[str]:
        """The sessions whose messages were set, least recently used first, untouched."""
        ...

    def sweep(self) -> int:
        """Remove what is over or too much; returns how many. Costs what goes, not what stays."""
        ...

    def relieve(self, count: int) -> int:
        """Remove so many, least recently used first, because memory is short; returns how many went."""
        ...

    def evictions(self) -> dict[str, int]:
        """How many sessions went, by cause."""
        ...

    def close(self) -> None:
        """Free everything. Later calls raise `EngineClosed`."""
        ...

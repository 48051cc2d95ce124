"""A dictionary in shards, so that it can be copied, and grows, a part at a time.

A plain dictionary is copied, or grown, whole: at a million sessions, for 10 to 50 ms in which nothing else runs. Here a
reader takes the lock for one shard at a time. A session stays in its shard as long as it lives, so a reader that goes
through all shards sees each session that lives throughout exactly once, whatever begins and ends meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

from lastseen.engine.session import Session

FEW = 4_096
"""So many sessions stand in one shard, in the order in which they were added."""
SHARDS = 256
Value = TypeVar("Value")


class Shards(MutableMapping[str, Value]):
    """Values by text, such as sessions by id. The order is that of addition within a shard only."""

    __slots__ = ("_count", "_mask", "_shards")

    def __init__(self, values: dict[str, Value] | None = None) -> None:
        self._shards: list[dict[str, Value]] = [values or {}]
        self._mask = 0
        self._count = len(self._shards[0])
        if self._count > FEW:
            self._split()

    def parts(self) -> list[dict[str, Value]]:
        """The shards. To be copied one at a time, each with the lock that guards the whole; the first at once."""
        return self._shards

    def _split(self) -> None:
        (whole,) = self._shards
        self._mask = SHARDS - 1
        self._shards = [{} for _ in range(SHARDS)]
        for text, value in whole.items():
            self._shards[hash(text) & self._mask][text] = value

    def get(self, text: str, default: Value | None = None) -> Value | None:  # type: ignore[override]
        """The value, or `default`."""
        return self._shards[hash(text) & self._mask].get(text, default)

    def __getitem__(self, text: str) -> Value:
        return self._shards[hash(text) & self._mask][text]

    def __contains__(self, text: object) -> bool:
        return text in self._shards[hash(text) & self._mask]

    def __setitem__(self, text: str, value: Value) -> None:
        shard = self._shards[hash(text) & self._mask]
        before = len(shard)
        shard[text] = value
        self._count += len(shard) - before
        if self._count > FEW and not self._mask:
            self._split()

    def __delitem__(self, text: str) -> None:
        del self._shards[hash(text) & self._mask][text]
        self._count -= 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        for shard in self._shards:
            yield from shard


def parts_of(sessions: dict[str, Session] | Shards[Session]) -> list[dict[str, Session]]:
    """The shards of sessions that may stand in a plain dictionary."""
    return sessions.parts() if isinstance(sessions, Shards) else [sessions]


def added(
    sessions: dict[str, Session] | Shards[Session], text: str, session: Session
) -> dict[str, Session] | Shards[Session]:
    """Add one to sessions that stand in a plain dictionary while they are few: that takes less memory than shards."""
    sessions[text] = session
    return Shards(sessions) if type(sessions) is dict and len(sessions) > FEW else sessions


def put(
    owned: MutableMapping[str, dict[str, Session] | Shards[Session]], owner: str, text: str, session: Session
) -> None:
    """Add one to the sessions of an owner."""
    owned[owner] = added(owned.get(owner) or {}, text, session)

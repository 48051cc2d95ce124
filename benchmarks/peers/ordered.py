"""The floor: a dictionary in the order of last use, and nothing else."""

from __future__ import annotations

from collections import OrderedDict

from benchmarks.peers.port import IDLE_S, Cache, Kept, now


class Ordered(Cache):
    """An `OrderedDict` of sessions, least recently used first. The idle are at its head; a create looks there."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.sessions: OrderedDict[str, Kept] = OrderedDict()

    def create(self, key: str) -> None:
        """Put it in, and drop idle sessions, or one too many."""
        sessions, at = self.sessions, now()
        sessions[key] = Kept(at)
        while sessions and (
            len(sessions) + len(self.suspended) > self.most
            or next(iter(sessions.values())).active_at + IDLE_S <= at
        ):  # fmt: skip
            sessions.popitem(last=False)

    def touch(self, key: str) -> None:
        """Its time, and its place in the order."""
        self.sessions[key].active_at = now()
        self.sessions.move_to_end(key)

    def read(self, key: str) -> Kept | None:
        """Look it up."""
        return self.sessions.get(key) or self.suspended.get(key)

    def suspend(self, key: str) -> None:
        """Put it aside."""
        self.suspended[key] = self.sessions.pop(key)

    def resume(self, key: str) -> None:
        """Take it back."""
        self.sessions[key] = session = self.suspended.pop(key)
        session.active_at = now()

    def close(self, key: str) -> None:
        """Drop it."""
        if self.sessions.pop(key, None) is None:
            del self.suspended[key]

    def live(self) -> int:
        """How many there are."""
        return len(self.sessions) + len(self.suspended)

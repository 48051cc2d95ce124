"""The gateway's look inside its store: `_entries`, a mapping from keys to entries, read from the engine when asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lastseen.compat.gateway.entry import SessionEntry
from lastseen.compat.gateway.sessions import Sessions


class Entries(Mapping[str, SessionEntry]):
    """Live entries by key. What is read is a copy: the store's `_save` saves what the gateway changes in it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def __getitem__(self, key: str) -> SessionEntry:
        view = self._sessions.get(key)
        if view is None:
            raise KeyError(key)
        return self._sessions.entry(view)

    def __iter__(self) -> Iterator[str]:
        return (view.key for view in self._sessions.all())

    def __len__(self) -> int:
        return sum(1 for _ in self._sessions.all())

"""The gateway's look inside its store: `_entries`, a mapping from keys to entries, read from the engine when asked."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any

from lastseen.compat.gateway.entry import SessionEntry
from lastseen.compat.gateway.sessions import Sessions


class Entries(MutableMapping[str, SessionEntry]):
    """Live entries by key. What is read is a copy, and what the gateway changes in it is saved.

    An entry that is put here begins a session, in the place of the one under its key; one that is removed ends it.
    """

    def __init__(self, sessions: Sessions, attributes_of: Callable[[Any], dict[str, Any]]) -> None:
        self._sessions = sessions
        self._attributes_of = attributes_of

    def __getitem__(self, key: str) -> SessionEntry:
        self._sessions.save_pending()
        view = self._sessions.get(key)
        if view is None:
            raise KeyError(key)
        return self._sessions.entry(view)

    def __setitem__(self, key: str, entry: SessionEntry) -> None:
        self._sessions.save_pending()
        self._sessions.put(key, entry, self._attributes_of(entry))

    def __delitem__(self, key: str) -> None:
        self._sessions.save_pending()
        if not self._sessions.remove(key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        self._sessions.save_pending()
        return (view.key for view in self._sessions.all())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def items(self) -> ItemsView[str, SessionEntry]:
        """Each key with its entry: a session that ends meanwhile is there or not, and no error."""
        return _Items(self)

    def values(self) -> ValuesView[SessionEntry]:
        """Each entry, likewise."""
        return _Values(self)

    def each(self) -> Iterator[SessionEntry]:
        """Every entry, from one listing."""
        self._sessions.save_pending()
        return (self._sessions.entry(view) for view in self._sessions.all())


class _Items(ItemsView[str, SessionEntry]):
    _mapping: Entries

    def __iter__(self) -> Iterator[tuple[str, SessionEntry]]:
        return ((entry.session_key, entry) for entry in self._mapping.each())


class _Values(ValuesView[SessionEntry]):
    _mapping: Entries

    def __iter__(self) -> Iterator[SessionEntry]:
        return self._mapping.each()

"""Reads of bodies: the attributes and messages of live sessions, from memory or, if they have left it, the snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from lastseen.engine.errors import SessionEnd
from lastseen.engine.session import Session
from lastseen.projections.bodies import Bodies, BodyId, BodyStore, Message

_tuple = tuple.__new__
"""Makes a named tuple in half the time that its class takes."""


class BodyReads:
    """Attributes for session views (`live_view.Attributes`), and messages. Safe to call from many threads."""

    def __init__(
        self,
        bodies: Bodies,
        store: BodyStore,
        view_lock: AbstractContextManager[Any],
        check_open: Callable[[], None],
        end_before: Callable[[str, int], SessionEnd | None],
    ) -> None:
        """`check_open` raises `EngineClosed` once `store` can no longer be read; `end_before` is the history's."""
        self._end_before = end_before
        self._bodies = bodies
        self._store = store
        self._view_lock = view_lock
        self._check_open = check_open

    def in_memory(self, partition: int, session: Session) -> Mapping[str, Any] | None:
        """The attributes of a session if they are in memory, else `None`. The caller holds the view's lock."""
        return self._bodies.in_memory(_tuple(BodyId, (partition, session.born_offset)))

    def load(self, partition: int, session: Session) -> Mapping[str, Any]:
        """The attributes of a session. Raises `SnapshotError` and `EngineClosed`."""
        self._check_open()
        return self._bodies.read(BodyId(partition, session.born_offset), self._store, self._view_lock).attributes

    def previous(self, session: Session) -> SessionEnd | None:
        """How the session before one ended. Raises `SnapshotError` and `EngineClosed`."""
        self._check_open()
        return self._end_before(session.key, session.born_offset)

    def messages(self, partition: int, born_offset: int) -> Sequence[Message]:
        """The newest messages of a session, oldest first. Raises `SnapshotError`."""
        return list(self._bodies.read(BodyId(partition, born_offset), self._store, self._view_lock).messages.values())

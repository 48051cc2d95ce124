"""States of single sessions in the past, kept every so many records, so that a later read need not begin at the first.

They are kept in memory, within a bound, as reads of the past come by them. A read that was cancelled leaves those that
it reached: the next one continues there. What leaves is only made again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from operator import attrgetter
from threading import Lock
from typing import NamedTuple

from lastseen.engine.session import Session
from lastseen.projections.bodies import Body, BodyId

EVERY = 4_096
"""How many records of a session lie between two states."""
MAX_BYTES = 32 * 1024 * 1024
_SESSION_BYTES = 600
_offset = attrgetter("offset")


class KeyState(NamedTuple):
    """A session as it was right after one of its records."""

    offset: int
    at_ms: int
    """The log time of that record."""
    session: Session
    body: Body

    def cost_bytes(self) -> int:
        """What it takes in memory, roughly."""
        return _SESSION_BYTES + self.body.cost_bytes


class KeyStates:
    """The states of many sessions, each list in the order of the log. Safe to call from many threads."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._lists: OrderedDict[BodyId, list[KeyState]] = OrderedDict()
        """Least recently used first."""
        self.used_bytes = 0

    def keep(self, session: BodyId, state: KeyState) -> None:
        """Keep a state of a session, unless the one of that record is kept. Nothing in it may be changed afterwards."""
        with self._lock:
            states = self._lists.setdefault(session, [])
            self._lists.move_to_end(session)
            place = bisect_right(states, state.offset, key=_offset)
            if place and states[place - 1].offset == state.offset:
                return
            states.insert(place, state)
            self.used_bytes += state.cost_bytes()
            while self.used_bytes > self._max_bytes:
                self._make_room()

    def latest(self, session: BodyId, last_offset: int, until_ms: int | None) -> KeyState | None:
        """The latest state of a session at a record up to `last_offset`, and not after `until_ms`."""
        with self._lock:
            states = self._lists.get(session)
            if states is None:
                return None
            self._lists.move_to_end(session)
            place = bisect_right(states, last_offset, key=_offset)
            if until_ms is not None:
                place = min(place, bisect_right(states, until_ms, key=attrgetter("at_ms")))
            return states[place - 1] if place else None

    def _make_room(self) -> None:
        """Drop the states of the session that was not used for longest; of the only one, every other state."""
        if len(self._lists) > 1:
            _, dropped = self._lists.popitem(last=False)
        else:
            (states,) = self._lists.values()
            dropped = states[::2]
            del states[::2]
            if not states:
                self._lists.clear()
        self.used_bytes -= sum(state.cost_bytes() for state in dropped)

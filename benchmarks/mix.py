"""The one workload that every live peer is given: who does what to which session, drawn before any clock starts.

It keeps a naive model of who is live, least recently used first, under `max_sessions`, so it addresses only sessions
that live by the exact rules. A peer that evicts by guess meets some that it has dropped, which costs it less.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from benchmarks.workload import key_of
from lastseen.replay.recording import ChatEvent

SKEW = 0.99
"""The exponent of the Zipf distribution, as YCSB has it: of 100,000 sessions, one tenth gets three quarters of it."""
SHARES = {"touch": 90.0, "create": 5.0, "read": 3.0, "suspend": 0.5, "resume": 0.5, "close": 1.0}
"""Of 100 operations."""
BEFOREHAND = 10
"""Sessions that are suspended before the first resume, so that there is one to resume."""


class Operation(NamedTuple):
    """One call."""

    kind: str
    """`touch`, `create`, `read`, `suspend`, `resume` or `close`: the peer's method."""
    key: str


class Roll:
    """Who is live, by the shortest rules: least recently used first, the suspended exempt, so many at most."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.active: OrderedDict[str, None] = OrderedDict()
        self.suspended: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self.active or key in self.suspended

    def create(self, key: str) -> str | None:
        """Begin a session; the key of the one that had to go for it."""
        self.active[key] = None
        if len(self.active) + len(self.suspended) <= self.most:
            return None
        return self.active.popitem(last=False)[0]

    def do(self, operation: Operation) -> str | None:
        """Do it; the key that had to go, if one did."""
        kind, key = operation
        if kind == "create":
            return self.create(key)
        if kind == "touch":
            self.active.move_to_end(key)
        elif kind == "suspend":
            del self.active[key]
            self.suspended[key] = None
        elif kind == "resume":
            del self.suspended[key]
            self.active[key] = None
        elif kind == "close":
            (self.active if key in self.active else self.suspended).pop(key)
        return None


class Mix:
    """Operations on so many sessions, of which the popular ones stay popular. The same seed draws the same."""

    def __init__(self, sessions: int, seed: int = 1) -> None:
        self.roll = Roll(sessions)
        self.first = [key_of(number) for number in range(sessions)]
        """The sessions that are live before the first operation, least recently used first."""
        for key in self.first:
            self.roll.create(key)
        self._draw = random.Random(seed)
        self._slots: list[str | None] = list(self.first)
        self._draw.shuffle(self._slots)
        self._slot_of = {key: slot for slot, key in enumerate(self._slots) if key is not None}
        self._free: deque[int] = deque()
        self._weights = list(accumulate((rank + 1) ** -SKEW for rank in range(sessions)))
        self._next = sessions
        self._waiting: deque[str] = deque()

    def operations(self, count: int) -> list[Operation]:
        """The next so many."""
        kinds = self._draw.choices(list(SHARES), weights=list(SHARES.values()), k=count)
        slots = iter(self._draw.choices(range(len(self._slots)), cum_weights=self._weights, k=count))
        return [self._operation(kind, slot) for kind, slot in zip(kinds, slots, strict=True)]

    def touches(self, count: int) -> list[Operation]:
        """The next so many, touches only."""
        slots = self._draw.choices(range(len(self._slots)), cum_weights=self._weights, k=count)
        return [self._operation("touch", slot) for slot in slots]

    def _operation(self, kind: str, slot: int) -> Operation:
        if kind == "resume" and len(self._waiting) < BEFOREHAND:
            kind = "suspend"
        if kind == "create":
            operation = Operation(kind, key_of(self._next))
            self._next += 1
        elif kind == "resume":
            operation = Operation(kind, self._waiting.popleft())
        else:
            operation = Operation(kind, self._active(slot))
        if kind == "suspend":
            self._waiting.append(operation.key)
        evicted = self.roll.do(operation)
        gone = operation.key if kind == "close" else evicted
        if gone is not None:
            self._leave(gone)
        if kind == "create":
            # One is free: there are as many slots as may live, and who went for this one has just left its own.
            slot = self._free.popleft()
            self._slots[slot] = operation.key
            self._slot_of[operation.key] = slot
        return operation

    def _leave(self, key: str) -> None:
        slot = self._slot_of.pop(key)
        self._slots[slot] = None
        self._free.append(slot)

    def _active(self, slot: int) -> str:
        """The key in the slot, or in the next one with an active session."""
        while (key := self._slots[slot]) is None or key not in self.roll.active:
            slot = (slot + 1) % len(self._slots)
        return key


def of_chat(events: Iterable[ChatEvent], most: int) -> list[Operation]:
    """What a gateway does with recorded chat: who writes without a live session gets one, all others are touched,
    and who leaves is closed. At most `most` are live."""
    roll, operations = Roll(most), []
    for event in events:
        is_live = event.key in roll
        if event.action == "leave" and not is_live:
            continue
        kind = "close" if event.action == "leave" else "touch" if is_live else "create"
        operation = Operation(kind, event.key)
        roll.do(operation)
        operations.append(operation)
    return operations

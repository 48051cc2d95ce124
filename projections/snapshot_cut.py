"""A cut: what one flush writes, as it was at one moment, copied while the fold goes on.

A hundred thousand changed sessions take a tenth of a second to copy, and readers of the view cannot wait for that. So a
flush takes what it writes by exchanging containers, which costs the same at any size, and copies the sessions in steps.
Sessions change in place, so those that a batch of records names are copied before it is folded (`keep`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from lastseen.engine.session import Policy, Session
from lastseen.projections.bodies import BodyId, Unsaved
from lastseen.projections.snapshot_rows import PartitionRow, SessionRow, pack, policy_number, row_of, session_row

STEP = 500
"""Sessions copied with the view's lock held: about 1 ms."""
PAUSE_S = 0.000_1
"""Between two steps; without it, the lock is taken again before a waiting thread has woken up."""


class Taken(NamedTuple):
    """What has changed since the last flush, taken at one moment."""

    changed: list[dict[int, Session]]
    """For each partition its changed sessions by the offsets of their births."""
    gone: list[set[int]]
    """For each partition the births of those that have ended."""
    endings: list[list[str]]
    """For each partition the ids of those, oldest first."""
    ended: list[int]
    """For each partition how many that were: a flush that fails adds later ones to `endings`."""
    bodies: dict[BodyId, Unsaved]
    partitions: list[tuple[int, PartitionRow]]


class Cut:
    """The changed sessions, packed, as they were when the cut was made."""

    def __init__(self, changed: Sequence[dict[int, Session]], policies: dict[Policy, int]) -> None:
        """`policies` are the numbers of known policies, to which the cut adds. It may be made under the view's lock."""
        self._changed = changed
        self._policies = policies
        self._reached = [-1] * len(changed)
        """For each partition the birth up to which its sessions are copied."""
        self._kept: list[dict[int, bytes]] = [{} for _ in changed]
        """Copied ahead of that. Few: a dictionary of all would grow, at some step, for longer than the lock is held.
        Nor do steps make objects that the garbage collector tracks, which would start a collection."""

    def keep(self, number: int, session: Session) -> None:
        """Copy a session that is about to change, unless it is copied already. The caller holds the view's lock."""
        born_offset, kept = session.born_offset, self._kept[number]
        if born_offset > self._reached[number] and born_offset in self._changed[number] and born_offset not in kept:
            kept[born_offset] = self._packed(session)

    def rows(self, view_lock: AbstractContextManager[Any]) -> list[tuple[int, bytes, int]]:
        """The rows of all sessions, in their order. The caller does not hold the view's lock."""
        rows = []
        for number, changed in enumerate(self._changed):
            kept = self._kept[number]
            for step in _in_steps(sorted(changed)):
                with view_lock:
                    states = [kept.pop(born, b"") or self._packed(changed[born]) for born in step]
                    self._reached[number] = step[-1]
                pairs = zip(step, states, strict=True)
                rows += [session_row(row_of(number, born_offset), state) for born_offset, state in pairs]
        return rows

    def _packed(self, session: Session) -> bytes:
        policy = self._policies.get(session.policy)
        if policy is None:
            policy = self._policies[session.policy] = policy_number(session.policy)
        stored = SessionRow(
            session.key,
            session.session_id,
            policy,
            session.created_at_ms,
            session.last_active_at_ms,
            session.last_active_offset,
            session.version,
            session.suspended_at_ms,
            session.suspended_ms,
            session.leases,
            session.owner,
        )
        return pack(stored)


def _in_steps(births: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(births), STEP):
        if start:
            time.sleep(PAUSE_S)
        yield births[start : start + STEP]


def copied_in_steps(
    copy: Callable[[int], list[Any]], from_offset: int, view_lock: AbstractContextManager[Any]
) -> list[Any]:
    """All that `copy` gives, which is called under the view's lock with the offset to go on from."""
    found: list[Any] = []
    while True:
        with view_lock:
            step = copy(from_offset)
        if not step:
            return found
        found += step
        from_offset = step[-1].offset + 1
        time.sleep(PAUSE_S)

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
from lastseen.projections.snapshot_rows import PartitionRow, SessionRow, policy_number, row_of, session_row

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
    bodies: dict[BodyId, Unsaved]
    partitions: list[tuple[int, PartitionRow]]


class Cut:
    """The rows of changed sessions, as they were when the cut was made."""

    def __init__(self, changed: Sequence[dict[int, Session]], policies: dict[Policy, int]) -> None:
        """`policies` are the numbers of known policies, to which the cut adds. It may be made under the view's lock."""
        self._changed = changed
        self._policies = policies
        self._rows: list[dict[int, tuple[int, bytes, int]]] = [{} for _ in changed]

    def keep(self, number: int, session: Session) -> None:
        """Copy a session that is about to change, unless it is copied already. The caller holds the view's lock."""
        born_offset = session.born_offset
        if born_offset in self._changed[number] and born_offset not in self._rows[number]:
            self._rows[number][born_offset] = self._row(number, born_offset, session)

    def rows(self, view_lock: AbstractContextManager[Any]) -> list[tuple[int, bytes, int]]:
        """The rows of all sessions, in their order. The caller holds no lock of the view."""
        for number, changed in enumerate(self._changed):
            rows = self._rows[number]
            for step in _in_steps(list(changed)):
                with view_lock:
                    for born_offset in step:
                        if born_offset not in rows:
                            rows[born_offset] = self._row(number, born_offset, changed[born_offset])
        return [rows[born_offset] for rows in self._rows for born_offset in sorted(rows)]

    def _row(self, number: int, born_offset: int, session: Session) -> tuple[int, bytes, int]:
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
        return session_row(row_of(number, born_offset), stored)


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

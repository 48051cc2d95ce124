"""The pruner: announces sessions that are due back to the log, and keeps their number within bounds.

It only proposes: each announcement is judged by the fold like any other record, so a pruner that is late, doubled, or
has a fast clock is harmless. `plan` says what a pass would do and why; `run` does what the plan says.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from lastseen.engine import own_events
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.events import TIMED_REASONS, ExpiryReason
from lastseen.engine.identifiers import new_event_ids
from lastseen.engine.lifecycle import MAX_AHEAD_MS
from lastseen.engine.log.port import Message
from lastseen.engine.session import Session
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Partition

BATCH = 1_000
"""Announcements appended at a time."""
OPENED_AT_A_TIME = 1_000
"""Filings looked at with the view's lock held: about 2 ms."""
PASSED_AT_A_TIME = 200
"""Held sessions set aside with the view's lock held: about 1 ms."""
FEW_SPARED = 100
MANY_SPARED = 1_000
"""How many spared sessions the plan of a pass names, and that of a dry run."""
PAUSE_S = 0.000_1
RETRY_MS = 1_000
"""How long the pruner waits for the fold to end a session before it announces it again."""


class Due(NamedTuple):
    """One session that a pass would end, or that a guard spares."""

    partition: int
    key: str
    session_id: str
    reason: str
    """`idle`, `max_age`, `suspend_ttl`, `capacity` or `memory`; for a spared session, the guard: `held`."""
    deadline_ms: int
    version: int


_Placed = tuple[tuple[int, ...], Due]
"""A session, and its place in the LRU order."""


@dataclass(slots=True)
class Plan:
    """What a pass would do: end `due`, soonest first, and spare others: `spared` names some, less recently used but
    held."""

    due: list[Due] = field(default_factory=list)
    spared: list[Due] = field(default_factory=list)


class Pruner:
    """Plans and appends expiries for the partitions it owns."""

    def __init__(
        self,
        view: LiveView,
        append: Callable[[Sequence[Message]], object],
        *,
        source: str,
        max_sessions: int | None = None,
        owned: Callable[[], Container[int]] | None = None,
    ) -> None:
        """`owned` says which partitions it announces for; all, if it is not given."""
        self._view = view
        self._owned = owned or (lambda: range(len(view.partitions)))
        self._append = append
        self._source = source
        self._max_sessions = max_sessions
        self.runs = 0
        self.announced = 0
        self.spared: Counter[str] = Counter()
        """By guard, how many sessions a pass found guarded when it was their turn: each once, until it is used."""
        self._recent: dict[str, int] = {}
        self._by_own_clock: set[int] = set()
        """Partitions whose latest log time is further ahead of this clock than a record's own time may be, and which
        refused announcements that bore it: the log's clock was set back. They get announcements by this clock."""

    def plan(self, now_ms: int, limit: int = BATCH, max_spared: int = FEW_SPARED) -> Plan:
        """What a pass at `now_ms` would do, at most `limit` sessions of it. Costs what is due, not what is live.

        Names at most `max_spared` of the spared.
        """
        plan = Plan()
        owned = self._owned()
        self._open_step_by_step(now_ms, owned)
        with self._view.lock:
            for partition in self._view.partitions:
                if partition.number not in owned:
                    continue
                at_ms = self._view.reading_ms(partition.number, now_ms)
                for session in partition.deadlines.due(at_ms, limit - len(plan.due)):
                    deadline_ms = session.deadline_ms()
                    if deadline_ms is not None:
                        plan.due.append(_due(partition, session, session.reason_at(deadline_ms), deadline_ms))
        plan.due.sort(key=lambda due: due.deadline_ms)
        self._plan_capacity(plan, now_ms, limit, max_spared)
        return plan

    def _plan_capacity(self, plan: Plan, now_ms: int, limit: int, max_spared: int) -> None:
        """Add what is to be evicted, so that the plan has at most `limit`."""
        if self._max_sessions is not None:
            excess = self._view.count() - len(plan.due) - self._max_sessions
            every = range(len(self._view.partitions))
            self._plan_evictions(plan, now_ms, min(excess, limit - len(plan.due)), "capacity", every, max_spared)

    def dry_run(self, now_ms: int) -> Plan:
        """What a pass at `now_ms` would do, all of it. The view's lock is not held while sessions are looked at."""
        plan = Plan()
        owned = self._owned()
        self._open_step_by_step(now_ms, owned)
        for partition in self._view.partitions:
            if partition.number in owned:
                with self._view.lock:
                    at_ms = self._view.reading_ms(partition.number, now_ms)
                    sessions = partition.deadlines.all_due(at_ms)
                # Those that are due in the same millisecond come as the deadlines would give them: the elder first.
                unique = sorted({id(each): each for each in sessions}.values(), key=lambda each: each.born_offset)
                plan.due += [due for session in unique if (due := _due_by_time(partition, session, at_ms)) is not None]
        plan.due.sort(key=lambda due: due.deadline_ms)
        self._plan_capacity(plan, now_ms, 2**62, MANY_SPARED)
        return plan

    def _open_step_by_step(self, now_ms: int, owned: Container[int]) -> None:
        """Look at what was filed under times that have come: tens of thousands of sessions, where a million live."""
        for partition in self._view.partitions:
            if partition.number in owned:
                self._in_steps(partition, now_ms, lambda each, at_ms: each.deadlines.open(at_ms, OPENED_AT_A_TIME))

    def _in_steps(self, partition: Partition, now_ms: int, step: Callable[[Partition, int], bool]) -> None:
        """Call `step` under the view's lock, with the time by which a partition is judged, until it says it is done.

        A thread that waits for the view's lock gets it between two steps. That takes a pause: without one the lock is
        taken again before a waiting thread has woken up.
        """
        while True:
            with self._view.lock:
                if step(partition, self._view.reading_ms(partition.number, now_ms)):
                    return
            time.sleep(PAUSE_S)

    def live(self) -> int:
        """How many sessions live in the partitions that it announces for."""
        owned = self._owned()
        return sum(len(partition) for partition in self._view.working_partitions() if partition.number in owned)

    def plan_memory(self, now_ms: int, count: int) -> Plan:
        """What it would do to end `count` of our sessions, or a batch of them, because memory is short."""
        plan = Plan()
        self._plan_evictions(plan, now_ms, min(count, BATCH), "memory", self._owned(), FEW_SPARED)
        return plan

    def _plan_evictions(
        self, plan: Plan, now_ms: int, count: int, reason: ExpiryReason, among: Container[int], max_spared: int
    ) -> None:
        """Add those of the `count` least recently used sessions in these partitions that are ours to end.

        Suspended and held ones do not count.
        """
        if count <= 0:
            return
        owned = self._owned()
        planned = {due.session_id for due in plan.due}
        soon = min(count + len(planned), BATCH)
        for partition in self._view.working_partitions():
            if partition.number in among:
                self._pass_held_by(partition, now_ms, soon, owned)
        last: tuple[int, ...] | None = None
        spared: list[_Placed] = []
        with self._view.lock:
            times = self._view.reading_times(now_ms)
            for partition, session in self._view.in_eviction_order(times, count + len(planned), among):
                is_ours = partition.number in owned
                if session.session_id in planned:
                    continue
                if session.held_at(times[partition.number]):
                    if is_ours and len(spared) < max_spared:
                        spared.append((_place(partition, session), _due(partition, session, "held", now_ms)))
                    continue
                if is_ours:
                    plan.due.append(_due(partition, session, reason, now_ms))
                count -= 1
                if not count:
                    last = _place(partition, session)
                    break
        spared += self._set_aside(now_ms, last, owned, max_spared)
        plan.spared = [due for _, due in sorted(spared)[:max_spared]]

    def _pass_held_by(self, partition: Partition, now_ms: int, count: int, owned: Container[int]) -> None:
        """Set aside the held among the least recently used sessions, up to the `count`-th that is not held."""

        def pass_by(partition: Partition, at_ms: int) -> bool:
            aside = partition.set_aside
            passed, is_all = aside.pass_by(partition.active, at_ms, count, PASSED_AT_A_TIME)
            if passed and partition.number in owned:
                self.spared["held"] += passed
            return is_all

        self._in_steps(partition, now_ms, lambda each, at_ms: each.set_aside.open(at_ms, OPENED_AT_A_TIME))
        self._in_steps(partition, now_ms, pass_by)

    def _set_aside(
        self, now_ms: int, before: tuple[int, ...] | None, owned: Container[int], most: int
    ) -> list[_Placed]:
        """Some of the sessions that are set aside and held, and stand before a place in the LRU order."""
        found: list[_Placed] = []
        with self._view.lock:
            times = self._view.reading_times(now_ms)
            for partition in self._view.working_partitions():
                if partition.number not in owned:
                    continue
                for session in islice(partition.set_aside.sessions.values(), most):
                    place = _place(partition, session)
                    if session.held_at(times[partition.number]) and (before is None or place < before):
                        found.append((place, _due(partition, session, "held", now_ms)))
        return found

    def execute(self, plan: Plan, now_ms: int) -> int:
        """Announce what a plan says; returns how many announcements the log took. Raises `LogError`."""
        # By a clock that was set back the log would take an announcement for one of long ago.
        times = self._view.reading_times(now_ms)
        for number in self._by_own_clock:
            times[number] = now_ms
        for start in range(0, len(plan.due), BATCH):
            batch = plan.due[start : start + BATCH]
            event_ids = new_event_ids(now_ms, len(batch))
            self._append(
                [
                    Message(due.partition, due.key, self._announcement(due, event_id, times[due.partition]))
                    for due, event_id in zip(batch, event_ids, strict=True)
                ]
            )
            self.announced += len(batch)
        return len(plan.due)

    def run(self, now_ms: int) -> Plan:
        """One pass: announce all that is due at `now_ms`, in bounded batches; returns what it did.

        The caller has caught up with the log. Raises `LogError`.
        """
        self.runs += 1
        done = Plan()
        # After a clock was set back, what was announced in its future must be announced again.
        self._recent = {key: at_ms for key, at_ms in self._recent.items() if 0 <= now_ms - at_ms < RETRY_MS}
        while True:
            plan = self.plan(now_ms, BATCH + len(self._recent))
            found = len(plan.due)
            plan.due = [due for due in plan.due if not self._is_repeated(due, now_ms)]
            self.execute(plan, now_ms)
            done.due += plan.due
            done.spared = plan.spared
            refused = self._refused(plan)
            misjudged = self._misjudged(refused, now_ms)
            if misjudged:
                self._by_own_clock ^= misjudged
                self.execute(Plan([due for due in refused if due.partition in misjudged]), now_ms)
                refused = self._refused(plan)
            self._recent |= {due.session_id: now_ms for due in refused}
            if found < BATCH or not plan.due:
                return done

    def _is_repeated(self, due: Due, now_ms: int) -> bool:
        """Whether it was announced a moment ago, and has not become due since by a clock that was set right."""
        announced_ms = self._recent.get(due.session_id)
        return announced_ms is not None and not announced_ms < due.deadline_ms <= now_ms

    def _refused(self, plan: Plan) -> list[Due]:
        """Those that still live, though they were announced and the announcement was folded."""
        with self._view.lock:
            return [due for due in plan.due if due.session_id in self._view.partitions[due.partition].by_id]

    def _misjudged(self, refused: list[Due], now_ms: int) -> set[int]:
        """The partitions in which announcements may have been refused for the clock that they bore.

        A record may be `MAX_AHEAD_MS` ahead of the log's clock. Whether that clock was set back too, or only ours is
        wrong, no record says; so the other of the two is tried.
        """
        times = self._view.reading_times(now_ms)
        return {due.partition for due in refused if times[due.partition] - now_ms > MAX_AHEAD_MS}

    def _announcement(self, due: Due, event_id: str, at_ms: int) -> bytes:
        # By time the deadline itself is the condition; under pressure, that it was not used since.
        if_version = None if due.reason in TIMED_REASONS else due.version
        return own_events.expiry(
            event_id, self._source, due.key, iso_from_ms(at_ms), at_ms, due.session_id, due.reason,
            max(due.deadline_ms, 0), if_version, self._max_sessions if due.reason == "capacity" else None,
        )  # fmt: skip


def _place(partition: Partition, session: Session) -> tuple[int, ...]:
    """Where it stands in the LRU order of all partitions."""
    return session.last_active_at_ms, partition.number, session.last_active_offset


def _due_by_time(partition: Partition, session: Session, at_ms: int) -> Due | None:
    """A session that is due at `at_ms`, if it is and lives."""
    deadline_ms = session.deadline_ms()
    if deadline_ms is None or deadline_ms > at_ms or not partition.is_live(session):
        return None
    return _due(partition, session, session.reason_at(deadline_ms), deadline_ms)


def _due(partition: Partition, session: Session, reason: str, deadline_ms: int) -> Due:
    return Due(partition.number, session.key, session.session_id, reason, deadline_ms, session.version)

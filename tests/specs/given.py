"""Tests as sentences: given records, when a record, then its verdict and effect.

    given().created().at(10 * S).suspended().when.touched().then(Verdict.SUSPENDED)

A `History` folds each record as it is said. `at` and `after` turn the log's clock; a record is sent when the log takes
it unless `sent_ms` says otherwise. Times count from `EPOCH_MS`.
"""

from __future__ import annotations

from typing import Any, Self

from lastseen.engine import codec, events
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.log.port import Mark, Record
from lastseen.engine.session import Policy, Session
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome, Partition

S = 1_000
MIN = 60 * S
HOUR = 60 * MIN
EPOCH_MS = 1_700_000_000_000
KEY = "irc:#ubuntu:ana"


def sid(number: int) -> str:
    """A well-formed session id."""
    return f"session-{number:014d}"


A, B, C, D = (sid(number) for number in range(1, 5))

_DATA: dict[type[Any], type[Any]] = {
    events.Created: events.CreatedData,
    events.Touched: events.TouchedData,
    events.Suspended: events.ReasonedData,
    events.Resumed: events.ReasonedData,
    events.Held: events.HeldData,
    events.Released: events.ReleasedData,
    events.Expired: events.ExpiredData,
    events.Closed: events.ClosedData,
}


class History:
    """A partition and the records it received, one after another."""

    def __init__(self, now_ms: int = 0) -> None:
        self.partition = Partition(0)
        self.now_ms = now_ms
        self.outcomes: list[Outcome] = []
        self._session_id = A
        self._key = KEY

    # ── given ──

    def at(self, now_ms: int) -> Self:
        """The log's clock says `now_ms`."""
        self.now_ms = now_ms
        return self

    def after(self, by_ms: int) -> Self:
        return self.at(self.now_ms + by_ms)

    def of(self, session_id: str, key: str = KEY) -> Self:
        """What follows is about this session."""
        self._session_id, self._key = session_id, key
        return self

    @property
    def when(self) -> Self:
        """All records so far must have been applied; the next one is the one in question."""
        refused = [outcome for outcome in self.outcomes if outcome.verdict is not Verdict.APPLIED]
        assert not refused, f"given a history that was refused: {refused}"
        return self

    # ── records ──

    def created(self, session_id: str | None = None, *, policy: Policy | None = None, **data: Any) -> Self:
        if session_id is not None:
            self._session_id = session_id
        return self._say(events.Created, policy=policy or Policy(), **data)

    def touched(self, **data: Any) -> Self:
        return self._say(events.Touched, **data)

    def suspended(self, **data: Any) -> Self:
        return self._say(events.Suspended, **data)

    def resumed(self, **data: Any) -> Self:
        return self._say(events.Resumed, **data)

    def held(self, holder: str = "job", lease_ms: int = MIN, **data: Any) -> Self:
        return self._say(events.Held, holder=holder, lease_ms=lease_ms, **data)

    def released(self, holder: str = "job", **data: Any) -> Self:
        return self._say(events.Released, holder=holder, **data)

    def expired(self, reason: str = "idle", deadline_ms: int = 0, **data: Any) -> Self:
        return self._say(events.Expired, reason=reason, deadline_ms=deadline_ms, **data)

    def closed(self, reason: str = "logout", **data: Any) -> Self:
        return self._say(events.Closed, reason=reason, **data)

    def opened(
        self, *, imports: bool = False, partition: int = 0, partitions: int = 1, log_id: str = "log", **envelope: Any
    ) -> Self:
        data = events.OpenedData(log_id=log_id, partition=partition, partitions=partitions, imports=imports)
        return self._append(events.Opened, data, **envelope)

    def import_finished(self, **envelope: Any) -> Self:
        return self._append(events.ImportFinished, events.ImportData(), **envelope)

    def recorded(self, value: bytes | None, key: str | None = KEY, mark: Mark | None = None) -> Self:
        """A record of any bytes."""
        record = Record(0, len(self.outcomes), EPOCH_MS + self.now_ms, key, value, mark)
        self.outcomes.append(self.partition.fold(record))
        return self

    def _say(self, kind: type[Any], sent_ms: int | None = None, session_id: str | None = None, **data: Any) -> Self:
        filled = _DATA[kind](session_id=session_id or self._session_id, **data)
        return self._append(kind, filled, sent_ms=sent_ms)

    def _append(self, kind: type[Any], data: Any, sent_ms: int | None = None) -> Self:
        time = iso_from_ms(EPOCH_MS + (self.now_ms if sent_ms is None else sent_ms))
        event = kind(id=f"event-{len(self.outcomes)}", source="/spec", subject=self._key, time=time, data=data)
        return self.recorded(codec.encode(event), self._key)

    # ── then ──

    @property
    def outcome(self) -> Outcome:
        return self.outcomes[-1]

    @property
    def session(self) -> Session:
        """The live session under the key."""
        found = self.partition.find(self._key)
        assert found is not None, "no session is live under the key"
        return found

    def then(self, verdict: Verdict = Verdict.APPLIED) -> Self:
        assert self.outcome.verdict is verdict
        return self

    def nothing_changed(self) -> Self:
        """The record neither ended nor changed a session."""
        before = replay(self.outcomes[:-1]).partition
        assert self.outcome.ended is None
        assert live(self.partition) == live(before)
        assert self.partition.endings.newest(9) == before.endings.newest(9)
        return self

    def is_live(self, session_id: str, version: int, status: str = "active") -> Self:
        session = self.session
        assert (session.session_id, session.version, session.status.value) == (session_id, version, status)
        return self

    def is_gone(self) -> Self:
        assert self.partition.find(self._key) is None
        return self

    def has_ended(self, session_id: str, reason: str, at_ms: int) -> Self:
        """The last record ended this session."""
        ended, ending = self.outcome.ended, self.outcome.ending
        assert ended is not None
        assert ending is not None
        assert (ended.session_id, ending.reason, ending.at_ms - EPOCH_MS) == (session_id, reason, at_ms)
        assert (ending.partition, ending.offset) == (0, len(self.outcomes) - 1)
        assert self.partition.has_ended(session_id)
        return self

    def is_due_at(self, at_ms: int | None, reason: str | None) -> Self:
        due = self.session.deadline_ms()
        assert (due if due is None else due - EPOCH_MS) == at_ms
        assert self.session.deadline_reason() == reason
        return self


def given(now_ms: int = 0) -> History:
    """A new partition."""
    return History(now_ms)


def replay(outcomes: list[Outcome]) -> History:
    """The same records, folded anew."""
    history = History()
    for outcome in outcomes:
        history.outcomes.append(history.partition.fold(outcome.record))
    return history


def live(partition: Partition) -> list[tuple[Any, ...]]:
    """All that the fold keeps of every live session, in LRU order, suspended ones last."""
    return [
        (s.key, s.session_id, s.policy, s.created_at_ms, s.born_offset, s.last_active_at_ms, s.last_active_offset,
         s.version, s.suspended_at_ms, s.suspended_ms, dict(s.leases or {}), s.owner)
        for s in (*partition.active.values(), *partition.suspended.values())
    ]  # fmt: skip

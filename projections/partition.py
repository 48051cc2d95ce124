"""One partition's state, folded from its records: the live sessions in LRU order, the endings it remembers, the digest.

`fold` is total and deterministic: it takes any bytes, raises on none, and reads no clock, configuration or randomness.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from lastseen.engine import events, lifecycle
from lastseen.engine.codec import decode, remembered
from lastseen.engine.genesis import SUBJECT
from lastseen.engine.log.port import Mark, Record
from lastseen.engine.partitioner import partition_of
from lastseen.engine.plain_touch import OwnTouch
from lastseen.engine.session import Ending, Policy, Session, Status
from lastseen.engine.verdicts import Verdict
from lastseen.projections.deadlines import Deadlines
from lastseen.projections.lru_order import LruOrder, last_active_offset
from lastseen.projections.prefix_index import PrefixIndex
from lastseen.projections.set_aside import SetAside
from lastseen.projections.shards import Shards, put

EMPTY_DIGEST = bytes(32)
INTERNED_POLICIES = 1_024
_place = struct.Struct(">32sQqB")
_VERDICTS_BY_MARK = {
    Mark.CONTROL: Verdict.CONTROL, Mark.TRANSACTIONAL: Verdict.TRANSACTIONAL, Mark.UNREADABLE: Verdict.MALFORMED,
}  # fmt: skip
_sha256, _pack_place = hashlib.sha256, _place.pack
_APPLIED, _TOUCHED = int(Verdict.APPLIED), events.NAMES[events.Touched]
"""Found faster than through their modules."""
_tuple = tuple.__new__
"""Makes a named tuple in half the time that its class takes."""


class Outcome(NamedTuple):
    """What a record did."""

    record: Record
    event: events.StoredEvent | None
    verdict: Verdict
    at_ms: int
    """The record's log time; 0 where it holds no event."""
    session: Session | None
    """The live session under the key after an applied record."""
    ended: Session | None
    """The session that ended: settled at its deadline by this record, or ended by it."""
    ending: Ending | None


class TouchRun(NamedTuple):
    """Consecutive records, each a plain touch that this process wrote and that was activity and nothing else.

    What `Outcome` says of other records, for all of them together: each was applied, and none ended a session.
    """

    source: str
    entries: list[tuple[str, int, int, int, int, str, str, str, str, None]]
    """What the history says of each (`history.Entry`)."""
    sessions: list[Session]
    """The session that each touched."""


AT_MS: Final = 3
EVENT_ID: Final = 7
"""Where an entry of a run has its log time, and the id of its event."""


Hear = Callable[[int, int, Session], None]
"""Called with offset, log time and session of a touch right after it was folded: later ones change the same objects."""


class Endings:
    """The ids of the last `REMEMBERED_ENDINGS` ended sessions, oldest first."""

    def __init__(self, session_ids: Iterable[str] = (), total: int = 0) -> None:
        self._order: deque[str] = deque(session_ids)
        self._ids: set[str] = set(self._order)
        self.total = total
        """How many were ever added: what a snapshot has already written it need not write again."""

    def add(self, session_id: str) -> None:
        self._order.append(session_id)
        self._ids.add(session_id)
        self.total += 1
        if len(self._order) > lifecycle.REMEMBERED_ENDINGS:
            self._ids.discard(self._order.popleft())

    def newest(self, count: int) -> list[str]:
        """The last `count` of them, or all that are remembered, oldest first."""
        return list(islice(self._order, max(len(self._order) - count, 0), None))

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._ids


class Partition:
    """The state of one partition. Only `fold` changes it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.checkpoint = 0
        """The next offset to read."""
        self.digest = EMPTY_DIGEST
        """sha256 over the previous digest and this record's offset, log time, verdict and bytes, record by record."""
        self.log_id: str | None = None
        """Of the genesis record; `None` until there was one."""
        self.log_partitions = 0
        """How many partitions the log has, by the genesis record."""
        self.importing = False
        """Whether the events' own times are still its log times."""
        self.log_time_ms = 0
        """The latest log time of a record that was not void for its form or its clock."""
        self.active = LruOrder()
        """Active sessions by key, least recently used first, but for those that are set aside."""
        self.set_aside = SetAside()
        """Active sessions that a pass of the pruner found held."""
        self._aside = self.set_aside.sessions
        self.suspended: Shards[Session] = Shards()
        """Suspended sessions by key."""
        self.by_id: Shards[Session] = Shards()
        self.by_owner: Shards[dict[str, Session] | Shards[Session]] = Shards()
        """Owner → its live sessions by key."""
        self.prefix_index: PrefixIndex | None = None
        """Live sessions by the prefixes of tenants; made by the view when there are any."""
        self.endings = Endings()
        self._policies: dict[Policy, Policy] = {}
        self.deadlines = Deadlines(self.is_live)

    # What the rules ask (`lifecycle.SessionIds`).

    def has_ended(self, session_id: str) -> bool:
        return session_id in self.endings

    def is_known(self, session_id: str) -> bool:
        return session_id in self.by_id or session_id in self.endings

    # What views ask.

    def find(self, key: str) -> Session | None:
        """The session under `key` that no record has ended yet; it may be due."""
        session = self.active.get(key)
        return session if session is not None else self.suspended.get(key) or self._aside.get(key)

    def active_count(self) -> int:
        """How many sessions are active."""
        return len(self.active) + len(self._aside)

    def in_lru_order(self) -> Iterator[Session]:
        """The active sessions, least recently used first."""
        return self._before_active(sorted(self._aside.values(), key=last_active_offset))

    def in_eviction_order(self, at_ms: int, limit: int) -> Iterator[Session]:
        """The same without those that are set aside and held; at most `limit` of those set aside."""
        return self._before_active(self.set_aside.free(at_ms, limit))

    def _before_active(self, aside: Sequence[Session]) -> Iterator[Session]:
        if not aside:
            return iter(self.active.values())
        return heapq.merge(aside, self.active.values(), key=last_active_offset)

    def is_live(self, session: Session) -> bool:
        """Whether this very session object is still part of the state."""
        return self.by_id.get(session.session_id) is session

    def __len__(self) -> int:
        return len(self.by_id)

    def fold(self, record: Record) -> Outcome:
        """Take the next record; returns what it did."""
        session = ended = ending = event = None
        _, offset, timestamp_ms, key, value, mark = record
        at_ms = 0
        decoded = decode(key, value) if mark is None else _VERDICTS_BY_MARK[mark]
        if isinstance(decoded, Verdict):
            verdict = decoded
            if verdict is Verdict.UNKNOWN_TYPE and key is not None and key != SUBJECT and self._belongs_elsewhere(key):
                verdict = Verdict.WRONG_PARTITION
        else:
            event, sent_at_ms = decoded
            # The first record of an import carries its own time as those after it do.
            imports = self.importing if offset else type(event) is events.Opened and event.data.imports
            at_ms = sent_at_ms if imports else timestamp_ms
            is_timely = _is_past(sent_at_ms, timestamp_ms) if imports else lifecycle.is_fresh(sent_at_ms, timestamp_ms)
            # What makes a log may have a wrong clock, and no deadline depends on the time of the first record; but an
            # import whose beginning is in the future could not be finished.
            if not is_timely and (offset or imports or type(event) is not events.Opened):
                verdict = Verdict.CLOCK_SKEW
                if not isinstance(event, events.LOG_EVENTS) and self._belongs_elsewhere(event.subject):
                    verdict = Verdict.WRONG_PARTITION
            elif isinstance(event, events.LOG_EVENTS):
                verdict = self._take_log_event(event, offset)
            else:
                verdict, session, ended, ending = self._take(event, at_ms, offset)
                if at_ms > self.log_time_ms and verdict is not Verdict.WRONG_PARTITION:
                    self.log_time_ms = at_ms
        self.checkpoint = offset + 1
        self.digest = hashlib.sha256(_place.pack(self.digest, offset, at_ms, verdict) + (value or b"")).digest()
        return _tuple(Outcome, (record, event, verdict, at_ms, session, ended, ending))

    def fold_touches(self, records: Sequence[Record], start: int, hear: Hear | None) -> TouchRun | None:
        """Take the records from `start` on that are plain touches of this process, as far as they are nothing else.

        A shortcut with no rules of its own. `None`, and nothing has changed, where the first of them is another record,
        or its result may be more than activity: then `fold` takes it. A differential test compares the two ways:
        `tests/properties/test_own_touches.py`.
        """
        own, number = remembered(), self.number
        parts, mask = self.active.parts, self.active.mask
        first = own.get(records[start].value)  # type: ignore[arg-type]  # no value is not among them
        if type(first) is not OwnTouch or self.importing:
            return None
        source = first.source
        run = TouchRun(source, [], [])
        note, keep = run.entries.append, run.sessions.append
        digest, offset, log_time_ms = self.digest, self.checkpoint, self.log_time_ms
        for place in range(start, len(records)):
            _, found, at_ms, key, value, mark = records[place]
            touch = own.get(value)  # type: ignore[arg-type]
            if type(touch) is not OwnTouch or value is None or key is None:
                break
            named, session_id, event_id, by, _, sent_at_ms = touch
            part = parts[hash(key) & mask]
            session = part.get(key)
            if (
                session is None
                or found != offset
                or mark is not None
                or key != named
                or by != source
                or not lifecycle.is_fresh(sent_at_ms, at_ms)
                or not lifecycle.note_activity(session, session_id, at_ms, offset)
            ):
                break
            part.move_to_end(key)
            own.pop(value, None)
            digest = _sha256(_pack_place(digest, offset, at_ms, _APPLIED) + value).digest()
            note((key, offset, number, at_ms, _APPLIED, _TOUCHED, session_id, event_id, source, None))
            keep(session)
            if at_ms > log_time_ms:
                log_time_ms = at_ms
            if hear is not None:
                hear(offset, at_ms, session)
            offset += 1
        self.digest, self.checkpoint, self.log_time_ms = digest, offset, log_time_ms
        return run if run.sessions else None

    def _belongs_elsewhere(self, key: str) -> bool:
        """Whether a key belongs to another partition; never in a log without a genesis record."""
        partitions = self.log_partitions
        return partitions > 1 and partition_of(key, partitions) != self.number

    def _take_log_event(self, event: events.Opened | events.ImportFinished, offset: int) -> Verdict:
        if isinstance(event, events.Opened):
            data = event.data
            if offset != 0 or data.partition != self.number or data.partition >= data.partitions:
                return Verdict.ALREADY
            self.log_id, self.log_partitions = data.log_id, data.partitions
            self.importing = data.imports
            return Verdict.APPLIED
        if not self.importing:
            return Verdict.ALREADY
        self.importing = False
        return Verdict.APPLIED

    def _take(
        self, event: events.SessionEvent, at_ms: int, offset: int
    ) -> tuple[Verdict, Session | None, Session | None, Ending | None]:
        """Settle, judge, apply."""
        key = event.subject
        active = self.active
        part = active.parts[hash(key) & active.mask]
        session = part.get(key)
        if session is None:
            session = self.suspended.get(key) or self._aside.get(key)
            # A key that is live here was looked at when its session began.
            if session is None and self._belongs_elsewhere(key):
                return Verdict.WRONG_PARTITION, None, None, None
        elif type(event) is events.Touched and lifecycle.touch_plainly(session, event, at_ms, offset):
            part.move_to_end(key)
            return Verdict.APPLIED, session, None, None
        settled = ending = None
        if session is not None:
            due_ms = session.deadline_ms()
            if due_ms is not None and at_ms >= due_ms:
                ending = self._end(session, session.reason_at(due_ms), due_ms, offset)
                settled, session = session, None
        verdict = lifecycle.judge(event, session, settled, at_ms, self)
        if verdict is not Verdict.APPLIED:
            return verdict, session, settled, ending
        if type(event) is events.Touched and session is not None:
            # Nothing can end or change its place but the LRU order.
            owner = session.owner
            lifecycle.apply(session, event, at_ms, offset)
            if session.owner != owner:
                self._reindex(session, owner)
            if self.set_aside.drop(key) is not None:
                self.active[key] = session
            self.active.move_to_end(session.key)
            if event.data.policy is not None:
                session.policy = self._interned(session.policy)
                self.deadlines.file(session, at_ms)
            return verdict, session, settled, ending
        reason_of_end = lifecycle.end_of(event)
        if reason_of_end is not None and session is not None:
            session.version += 1
            ending = self._end(session, reason_of_end, at_ms, offset)
            settled, session = session, None
        if type(event) is events.Created:
            session = lifecycle.begin(event, at_ms, offset)
            session.policy = self._interned(session.policy)
            self._admit(session, at_ms)
        elif session is not None:
            self._change(session, event, at_ms, offset)
        return verdict, session, settled, ending

    def settle(self, key: str, at_ms: int, offset: int) -> tuple[Session, Ending] | None:
        """End the session under `key` if it is due, as every record does that addresses it, whatever its verdict."""
        session = self.find(key)
        due_ms = None if session is None else session.deadline_ms()
        if session is None or due_ms is None or at_ms < due_ms:
            return None
        return session, self._end(session, session.reason_at(due_ms), due_ms, offset)

    def _change(self, session: Session, event: events.SessionEvent, at_ms: int, offset: int) -> None:
        was = session.status
        lifecycle.apply(session, event, at_ms, offset)
        if session.status is not was:
            if session.status is Status.SUSPENDED:
                if self.set_aside.drop(session.key) is None:
                    del self.active[session.key]
                self.suspended[session.key] = session
            else:
                self.active[session.key] = self.suspended.pop(session.key)
        elif self._aside:
            self.set_aside.refile(session)
        self.deadlines.file(session, at_ms)

    def _interned(self, policy: Policy) -> Policy:
        # Few policies govern many sessions: one object for all of them saves 170 bytes a session.
        if len(self._policies) >= INTERNED_POLICIES:
            self._policies.clear()
        return self._policies.setdefault(policy, policy)

    def _admit(self, session: Session, at_ms: int) -> None:
        (self.active if session.status is Status.ACTIVE else self.suspended)[session.key] = session
        self.by_id[session.session_id] = session
        self._reindex(session, None)
        self.deadlines.file(session, at_ms)

    def restore(self, sessions: Sequence[Session], checkpoint: int, digest: bytes) -> None:
        """Bring an empty partition to the state of a snapshot; `sessions` stand in the order of their births."""
        self.checkpoint, self.digest = checkpoint, digest
        self.by_id = Shards({session.session_id: session for session in sessions})
        in_lru_order = sorted(sessions, key=last_active_offset)
        self.active = LruOrder(session for session in in_lru_order if session.suspended_at_ms is None)
        suspended = [session for session in in_lru_order if session.suspended_at_ms is not None]
        self.suspended = Shards({session.key: session for session in suspended})
        for session in in_lru_order:
            if session.owner is not None or self.prefix_index is not None:
                self._reindex(session, None)
            self.deadlines.file(session, session.last_active_at_ms)

    def _end(self, session: Session, reason: str, at_ms: int, offset: int) -> Ending:
        del self.by_id[session.session_id]
        if self.active.pop(session.key) is None and self.set_aside.drop(session.key) is None:
            del self.suspended[session.key]
        if session.owner is not None:
            self._disown(session, session.owner)
        if self.prefix_index is not None:
            self.prefix_index.drop(session)
        self.endings.add(session.session_id)
        return Ending(reason, at_ms, self.number, offset)

    def _reindex(self, session: Session, previous: str | None) -> None:
        if previous is not None:
            self._disown(session, previous)
        if session.owner is not None:
            put(self.by_owner, session.owner, session.key, session)
        if self.prefix_index is not None:
            self.prefix_index.move(session, previous)

    def _disown(self, session: Session, owner: str) -> None:
        owned = self.by_owner[owner]
        del owned[session.key]
        if not owned:
            del self.by_owner[owner]


def _is_past(sent_at_ms: int, timestamp_ms: int) -> bool:
    """Whether imported history may be believed: it may be old, but not of the future."""
    return sent_at_ms <= timestamp_ms + lifecycle.MAX_AHEAD_MS

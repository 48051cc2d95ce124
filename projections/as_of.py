"""A session as it was at an earlier time: the records of its key, folded again up to there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

from lastseen.engine.errors import InvalidSetting, LogMismatch, SessionEnd, shown
from lastseen.engine.log.port import Log, Position, Record
from lastseen.engine.session import MAX_LIMIT_MS, Session, SessionView
from lastseen.engine.verdicts import Verdict
from lastseen.projections.bodies import Bodies, Body, BodyId
from lastseen.projections.facts_replay import without_replacement
from lastseen.projections.history import Entry, History
from lastseen.projections.history_bound import left_memory
from lastseen.projections.key_states import EVERY, KeyState, KeyStates
from lastseen.projections.partition import Partition
from lastseen.projections.session_spans import SessionSpan

_PAGE = 1_000
_GAP = 16
"""Records of other keys that are read along with a key's own: a read costs as much as some twelve records."""
check_wanted: ContextVar[Callable[[], None]] = ContextVar("check_wanted", default=lambda: None)
"""Called before each record that is folded again; what it raises ends the read. A read of the past takes as long as its
key has records, and its caller may be gone by then."""


class _ContinuedBodies:
    """A body store that holds the body of the state that a refold continues; others begin with their sessions."""

    lock = nullcontext()

    def __init__(self) -> None:
        self.bodies: dict[BodyId, Body] = {}

    def load_body(self, body_id: BodyId) -> Body:
        return self.bodies[body_id].copy() if body_id in self.bodies else Body()


class KeyRefold:
    """A key's state while its records are folded again, alone."""

    def __init__(self, number: int, states: KeyStates) -> None:
        """`states` are those that earlier reads have left."""
        self._partition = Partition(number)
        self._bodies = Bodies(max_body_bytes=2**62)
        self._continued = _ContinuedBodies()
        self._states = states
        self._history: History | None = None

    def in_memory(self, partition: int, session: Session) -> Mapping[str, Any] | None:
        """The attributes (`live_view.Attributes`)."""
        return self.load(partition, session)

    def load(self, _: int, session: Session) -> Mapping[str, Any]:
        """The attributes (`live_view.Attributes`)."""
        return self.body(session).attributes

    def previous(self, session: Session) -> SessionEnd | None:
        """How the session before one ended (`live_view.Attributes`)."""
        return None if self._history is None else self._history.end_before(session.key, session.born_offset)

    def body(self, session: Session) -> Body:
        """The session's body."""
        return self._bodies.read(BodyId(self._partition.number, session.born_offset), self._continued, nullcontext())

    def fold_until(self, log: Log, history: History, key: str, at: int | Position) -> int | None:
        """Fold the key's applied records up to a time or a position; returns the log time to look at it.

        Void records are passed over: all that they can do is settle a session, and that it is due shows by itself.
        """
        self._history = history
        floor = history.floor(self._partition.number)
        if isinstance(at, Position):
            if at.offset < floor:
                raise left_memory(key, self._partition.number, floor)
            until_ms, last_offset = self._log_time_ms(log, history, at), at.offset
        elif isinstance(at, int) and not isinstance(at, bool):
            until_ms, last_offset = at, MAX_LIMIT_MS
        else:
            raise InvalidSetting(f"as of {shown(at)}: give a log time in whole milliseconds, or a Position")
        if isinstance(at, Position):
            span = history.session_span_before(key, last_offset + 1)
        else:
            span = history.session_span_at(key, at)
        if floor and (span is None or span.began_offset < floor):
            raise left_memory(key, self._partition.number, floor)
        if span is None:
            return until_ms
        if until_ms is not None and _is_over(span, last_offset, until_ms, at):
            return until_ms  # nothing lived then: its records need not be read
        at_ms = self._fold_session(log, history, span, last_offset, until_ms)
        return at_ms if until_ms is None else until_ms

    def _fold_session(
        self, log: Log, history: History, span: SessionSpan, last_offset: int, until_ms: int | None
    ) -> int | None:
        """Fold the applied records of one session, and those of its key after it, up to a place and a time.

        Returns the log time of the last one. Begins at the latest state that an earlier read has left.
        """
        body_id, at_ms = BodyId(self._partition.number, span.began_offset), None
        after, kept = span.began_offset - 1, 0
        state = self._states.latest(body_id, last_offset, until_ms)
        if state is not None:
            self._restore(body_id, state)
            after, at_ms = state.offset, state.at_ms
        check = check_wanted.get()
        while page := history.entries(span.key, after_offset=after, limit=_PAGE):
            applied = [entry for entry in page if entry.verdict is Verdict.APPLIED]
            wanted = [
                entry
                for entry in applied
                if entry.offset <= last_offset and (until_ms is None or entry.at_ms <= until_ms)
            ]
            for entry, record in _records_of(log, wanted):
                check()
                self._fold(record, entry, span.key, is_beginning=entry.offset == span.began_offset)
                at_ms, kept = entry.at_ms, kept + 1
                if kept % EVERY == 0:
                    self._keep(body_id, entry)
            check()
            if len(wanted) < len(applied) or page[-1].offset > last_offset:
                break
            after = page[-1].offset
        return at_ms

    def _keep(self, body_id: BodyId, entry: Entry) -> None:
        """Leave the state for later reads, and drop the single changes that it holds."""
        session = self._partition.find(entry.key)
        if session is None or session.born_offset != body_id.born_offset:
            return
        body = self.body(session)
        self._bodies.take_unsaved()
        self._bodies.written()
        copy: Session = session.__copy__()  # type: ignore[attr-defined]
        self._states.keep(body_id, KeyState(entry.offset, entry.at_ms, copy, body))

    def _restore(self, body_id: BodyId, state: KeyState) -> None:
        copy: Session = state.session.__copy__()  # type: ignore[attr-defined]
        self._partition.restore([copy], state.offset + 1, self._partition.digest)
        self._continued.bodies[body_id] = state.body

    def _log_time_ms(self, log: Log, history: History, at: Position) -> int | None:
        """The log time of the record at a position, under any key; `None` if it was void for its form or clock."""
        records = log.read(at.partition, at.offset, 1) if at.partition == self._partition.number else []
        if not records:
            raise LogMismatch(f"as of {at.partition}:{at.offset}: the key's partition, {self._partition.number}, has no"
                              " record there; give the position of one, or a time")  # fmt: skip
        entry = None if records[0].key is None else history.entry_at(records[0].key, at.partition, at.offset)
        return None if entry is None or entry.verdict.is_untimed else entry.at_ms

    def _fold(self, record: Record | None, entry: Entry, key: str, *, is_beginning: bool) -> None:
        if record is None or record.key != key:
            raise LogMismatch(
                f"record {entry.partition}:{entry.offset} of {shown(key)} is no longer in the log, so its history is"
                " lost"
            )
        value = without_replacement(record) if is_beginning else record.value
        # Its log time is known from the history: imported history is folded like any other here.
        outcome = self._partition.fold(record._replace(timestamp_ms=entry.at_ms, value=value))
        self._bodies.on_record(self._partition, outcome)

    def find(self, key: str, at_ms: int) -> tuple[Session, SessionView] | None:
        """The session that was live at `at_ms`, if one was."""
        session = self._partition.find(key)
        if session is None or session.is_due(at_ms):
            return None
        return session, SessionView(session, self._partition.number, self.body(session).attributes, self)


def _is_over(span: SessionSpan, last_offset: int, until_ms: int, at: int | Position) -> bool:
    """Whether a session has ended before a time and a place. Within a millisecond, the place of its end decides."""
    if span.ended_at_ms is None or span.ended_offset is None:
        return False
    if isinstance(at, Position):
        return span.ended_offset <= last_offset or span.ended_at_ms < until_ms
    return span.ended_at_ms <= until_ms


def _records_of(log: Log, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Record | None]]:
    """The records of entries; those that lie close together come with one read, and what lies between is dropped."""
    start = 0
    while start < len(entries):
        end = start + 1
        while end < len(entries) and entries[end].offset - entries[end - 1].offset <= _GAP:
            end += 1
        run, first = entries[start:end], entries[start]
        found: dict[int, Record] = {}
        for entry in run:
            if entry.offset not in found:  # the first of a run, or more than one read gives
                length = run[-1].offset + 1 - entry.offset
                found = {record.offset: record for record in log.read(first.partition, entry.offset, length)}
            yield entry, found.get(entry.offset)
        start = end

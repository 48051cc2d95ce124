"""A session as it was at an earlier time: the records of its key, folded again up to there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

from lastseen.engine import events
from lastseen.engine.errors import InvalidSetting, LogMismatch, shown
from lastseen.engine.log.port import Log, Position
from lastseen.engine.session import MAX_LIMIT_MS, Session, SessionView
from lastseen.engine.verdicts import Verdict
from lastseen.projections.bodies import Bodies, Body, BodyId
from lastseen.projections.facts_replay import without_replacement
from lastseen.projections.history import Entry, History
from lastseen.projections.history_bound import left_memory
from lastseen.projections.partition import Partition

_PAGE = 1_000
_CREATED = events.NAMES[events.Created]
check_wanted: ContextVar[Callable[[], None]] = ContextVar("check_wanted", default=lambda: None)
"""Called before each record that is folded again; what it raises ends the read. A read of the past takes as long as its
key has records, and its caller may be gone by then."""


class _EmptyStore:
    """A body store that holds nothing: the scratch bodies are whole, since they begin with their sessions."""

    lock = nullcontext()

    def load_body(self, _: BodyId) -> Body:
        return Body()


class KeyRefold:
    """A key's state while its records are folded again, alone."""

    def __init__(self, number: int) -> None:
        self._partition = Partition(number)
        self._bodies = Bodies(max_body_bytes=2**62)
        self._attributes: Mapping[str, Any] = {}

    def in_memory(self, partition: int, session: Session) -> Mapping[str, Any] | None:
        """The attributes (`live_view.Attributes`)."""
        return self.load(partition, session)

    def load(self, _: int, session: Session) -> Mapping[str, Any]:
        """The attributes (`live_view.Attributes`)."""
        return self.body(session).attributes

    def body(self, session: Session) -> Body:
        """The session's body."""
        return self._bodies.read(BodyId(self._partition.number, session.born_offset), _EmptyStore(), nullcontext())

    def fold_until(self, log: Log, history: History, key: str, at: int | Position) -> int | None:
        """Fold the key's applied records up to a time or a position; returns the log time to look at it.

        Void records are passed over: all that they can do is settle a session, and that it is due shows by itself.
        """
        floor = history.floor(self._partition.number)
        if isinstance(at, Position):
            if at.offset < floor:
                raise left_memory(key, self._partition.number, floor)
            until_ms, last_offset = self._log_time_ms(log, history, at), at.offset
        elif isinstance(at, int) and not isinstance(at, bool):
            until_ms, last_offset = at, MAX_LIMIT_MS
        else:
            raise InvalidSetting(f"as of {shown(at)}: give a log time in whole milliseconds, or a Position")
        after, at_ms, check = -1, None, check_wanted.get()
        is_known = not floor  # from the first session on that began after the floor
        while page := history.entries(key, after_offset=after, limit=_PAGE):
            for entry in page:
                check()
                if entry.offset > last_offset:
                    return self._reached(history, key, is_known, at_ms if until_ms is None else until_ms)
                if entry.verdict is not Verdict.APPLIED:
                    continue
                if until_ms is not None and entry.at_ms > until_ms:
                    return self._reached(history, key, is_known, until_ms)
                at_ms = entry.at_ms
                is_beginning = not is_known and entry.name == _CREATED
                is_known |= is_beginning
                if is_known:
                    self._fold(log, entry, key, is_beginning=is_beginning)
            after = page[-1].offset
        return self._reached(history, key, is_known, at_ms if until_ms is None else until_ms)

    def _reached(self, history: History, key: str, is_known: bool, at_ms: int | None) -> int | None:
        number = self._partition.number
        if not is_known:
            raise left_memory(key, number, history.floor(number))
        return at_ms

    def _log_time_ms(self, log: Log, history: History, at: Position) -> int | None:
        """The log time of the record at a position, under any key; `None` if it was void for its form or clock."""
        records = log.read(at.partition, at.offset, 1) if at.partition == self._partition.number else []
        if not records:
            raise LogMismatch(f"as of {at.partition}:{at.offset}: the key's partition, {self._partition.number}, has no"
                              " record there; give the position of one, or a time")  # fmt: skip
        entry = None if records[0].key is None else history.entry_at(records[0].key, at.partition, at.offset)
        return None if entry is None or entry.verdict.is_untimed else entry.at_ms

    def _fold(self, log: Log, entry: Entry, key: str, *, is_beginning: bool) -> None:
        records = log.read(entry.partition, entry.offset, 1)
        if not records or records[0].key != key:
            raise LogMismatch(
                f"record {entry.partition}:{entry.offset} of {shown(key)} is no longer in the log, so its history is"
                " lost"
            )
        value = without_replacement(records[0]) if is_beginning else records[0].value
        # Its log time is known from the history: imported history is folded like any other here.
        outcome = self._partition.fold(records[0]._replace(timestamp_ms=entry.at_ms, value=value))
        self._bodies.on_record(self._partition, outcome)

    def find(self, key: str, at_ms: int) -> tuple[Session, SessionView] | None:
        """The session that was live at `at_ms`, if one was."""
        session = self._partition.find(key)
        if session is None or session.is_due(at_ms):
            return None
        return session, SessionView(session, self._partition.number, self.body(session).attributes, self)

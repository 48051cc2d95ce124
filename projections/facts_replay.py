"""Facts of the past: what subscribers received, made again from log and history for those that were away.

The history knows each record's verdict, so nothing is judged again. A key's state right before the first record in
question is folded from the beginning of the session that lived then; so this costs the records in question, and those
of the sessions that they are about, however long the log is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lastseen.engine import events
from lastseen.engine.codec import decode, encode
from lastseen.engine.errors import LogMismatch, shown
from lastseen.engine.log.port import Log, Record
from lastseen.engine.verdicts import Verdict
from lastseen.projections.facts import Fact, FactId, effect_of, facts_of
from lastseen.projections.history import Entry, History
from lastseen.projections.history_bound import left_memory
from lastseen.projections.partition import Outcome, Partition

PAGE = 512
"""Records read at a time."""
MAX_KEYS = 20_000
"""Keys whose state is kept; beyond that all are dropped, and folded again when they are needed."""
_LOG_EVENTS = tuple(events.NAMES[kind] for kind in events.LOG_EVENTS)


class FactsReplay:
    """Makes the facts of one partition again. The history has been written up to where it is asked for."""

    def __init__(self, number: int, log: Log, history: History) -> None:
        self._number = number
        self._log = log
        self._history = history
        self._partition = Partition(number)
        self._keys: set[str] = set()

    def between(self, from_offset: int, to_offset: int) -> Iterator[Fact]:
        """The facts of the records from `from_offset` up to, not including, `to_offset`.

        Raises `LogMismatch` where the log does not hold them any more, and `SnapshotError`.
        """
        offset = from_offset
        floor = self._history.floor(self._number)
        if offset < min(floor, to_offset):
            raise LogMismatch(
                f"the history of partition {self._number} goes back to offset {floor}, and {offset} was asked for: it"
                " is in memory, and what came before has left it. Name a file with the setting `snapshot`"
            )
        while offset < to_offset:
            records = self._log.read(self._number, offset, min(PAGE, to_offset - offset))
            if not records:
                return
            for record in records:
                yield from self._facts(record)
            offset = records[-1].offset + 1

    def _facts(self, record: Record) -> Iterator[Fact]:
        entry = None if record.key is None else self._history.entry_at(record.key, self._number, record.offset)
        if entry is None or entry.verdict.is_untimed or entry.name in _LOG_EVENTS:
            return
        self._fold_up_to(entry.key, record.offset)
        if entry.verdict is Verdict.APPLIED:
            effect = effect_of(self._fold(record, entry))
            if effect is not None:
                yield from facts_of(self._number, effect)
            return
        settled = self._partition.settle(entry.key, entry.at_ms, record.offset)
        if settled is not None:
            session, ending = settled
            place = FactId(self._number, record.offset, 0)
            yield Fact(place, "ended", session.key, session.session_id, ending.at_ms, ending.reason, None)

    def _fold_up_to(self, key: str, offset: int) -> None:
        """Bring a key to its state right before an offset, unless it is there."""
        if key in self._keys:
            return
        if len(self._keys) >= MAX_KEYS:
            self._partition, self._keys = Partition(self._number), set()
        self._keys.add(key)
        span = self._history.session_span_before(key, offset)
        if span is None or (span.ended_offset is not None and span.ended_offset < offset):
            return
        if span.began_offset < self._history.floor(self._number):
            raise left_memory(key, self._number, self._history.floor(self._number))
        after = span.began_offset - 1
        while page := self._history.entries(key, after_offset=after, limit=PAGE):
            for entry in page:
                if entry.offset >= offset:
                    return
                if entry.verdict is Verdict.APPLIED:
                    self._fold(self._record_of(entry), entry, is_beginning=entry.offset == span.began_offset)
            after = page[-1].offset

    def _record_of(self, entry: Entry) -> Record:
        found = self._log.read(self._number, entry.offset, 1)
        if not found or found[0].key != entry.key:
            raise LogMismatch(
                f"record {self._number}:{entry.offset} of {shown(entry.key)} is no longer in the log, so its history"
                " is lost"
            )
        return found[0]

    def _fold(self, record: Record, entry: Entry, *, is_beginning: bool = False) -> Outcome:
        # Its log time is known from the history: imported history is folded like any other here.
        value = without_replacement(record) if is_beginning else record.value
        outcome = self._partition.fold(record._replace(timestamp_ms=entry.at_ms, value=value))
        if outcome.verdict is not Verdict.APPLIED:
            raise LogMismatch(
                f"record {self._number}:{record.offset} of {shown(entry.key)} was applied and is now"
                f" {outcome.verdict.label}: the history belongs to another log. Delete history and snapshot, and"
                " both are rebuilt"
            )
        return outcome


def without_replacement(record: Record) -> bytes | None:
    """The `created` record of a session as if it had replaced none: the one before it is not available."""
    decoded = decode(record.key, record.value)
    if isinstance(decoded, Verdict) or not isinstance(decoded[0], events.Created):
        return record.value
    event = decoded[0]
    return encode(replace(event, data=replace(event.data, replaces=None, reason=None, if_version=None)))

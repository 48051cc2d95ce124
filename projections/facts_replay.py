"""Facts of the past: what subscribers received, made again from log and history for those that were away.

The history knows each record's verdict, so nothing is judged again. A key's state right before the first record in
question is folded from the beginning of the session that lived then; so this costs the records in question, and those
of the sessions that they are about, however long the log is. Where only the keys under a prefix are wanted, it costs
their records, or a look at the keys of those in question, whichever is less.

It is done in turns of a bounded number of records, however few facts they give, so that others come in between.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

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
"""Records read at a time, and the most of a turn."""
INDEX_PAGE = 4_096
"""Places of a prefix read from the history at a time. This makes a turn, too."""
MAX_PLACES = 100_000
"""Places of a prefix that are kept at a time; where it has more, they are looked for again."""
MAX_GAP = 4
"""Records between two that are wanted which are read with them: asking again would cost more."""
MAX_KEYS = 20_000
"""Keys whose state is kept; beyond that all are dropped, and folded again when they are needed."""
_NO_PROGRESS, _END_OF_TURN = -1, -2
_LOG_EVENTS = tuple(events.NAMES[kind] for kind in events.LOG_EVENTS)


class FactPage(NamedTuple):
    """What one turn gave."""

    facts: Sequence[Fact]
    next_offset: int
    """All facts of the records before it were given."""


class FactsReplay:
    """Makes the facts of one partition again. The history has been written up to where it is asked for."""

    def __init__(self, number: int, log: Log, history: History, prefix: str = "") -> None:
        """With a `prefix`, those of the keys under it alone."""
        self._number = number
        self._log = log
        self._history = history
        self._prefix = prefix
        self._partition = Partition(number)
        self._keys: set[str] = set()

    def check(self, from_offset: int, to_offset: int) -> None:
        """Raise `LogMismatch` where log and history do not go back so far."""
        floor = self._history.floor(self._number)
        if from_offset < min(floor, to_offset):
            raise LogMismatch(
                f"the history of partition {self._number} goes back to offset {floor}, and {from_offset} was asked for:"
                " it is in memory, and what came before has left it. Name a file with the setting `snapshot`"
            )
        if from_offset < to_offset:
            self._log.read(self._number, from_offset, 1)

    def between(self, from_offset: int, to_offset: int) -> Iterator[Fact]:
        """The facts of the records from `from_offset` up to, not including, `to_offset`.

        Raises `LogMismatch` where the log does not hold them any more, and `SnapshotError`.
        """
        for page in self.pages(from_offset, to_offset):
            yield from page.facts

    def pages(self, from_offset: int, to_offset: int) -> Iterator[FactPage]:
        """The same, turn by turn: each reads `PAGE` records at most, or `INDEX_PAGE` places of the history."""
        self.check(from_offset, to_offset)
        facts: list[Fact] = []
        cost, offset = 0, from_offset
        for step in self._steps(from_offset, to_offset):
            if isinstance(step, Fact):
                facts.append(step)
                continue
            cost += 1
            offset = max(offset, step)
            if cost >= PAGE or step == _END_OF_TURN:
                yield FactPage(facts, offset)
                facts, cost = [], 0
        yield FactPage(facts, to_offset)

    def _steps(self, from_offset: int, to_offset: int) -> Iterator[Fact | int]:
        """Facts, and for each record that was read the offset up to which all facts were given, or `_END_OF_TURN`."""
        offset = from_offset
        while offset < to_offset:
            places, until = None, to_offset
            if self._prefix and to_offset - offset > PAGE:
                places, until = yield from self._places(offset, to_offset)
            while offset < until:
                count = until - offset
                if places is not None:
                    offset, count = places.next_run(offset, until)
                records = self._log.read(self._number, offset, min(PAGE, count)) if count else ()
                for record in records:
                    if record.key is not None and record.key.startswith(self._prefix):
                        yield from self._facts(record)
                    yield record.offset + 1
                if not records and count:
                    return
                offset = records[-1].offset + 1 if records else until

    def _places(self, from_offset: int, to_offset: int) -> Generator[int, None, tuple[_Places | None, int]]:
        """Where the records of the prefix's keys are, and up to which offset these are all of them.

        `None` where that takes longer to find than to look at every record.
        """
        places, after, seen, until = array("q"), (self._prefix, -1, -1), 0, to_offset
        while page := self._history.places_under(self._prefix, after, INDEX_PAGE):
            places.extend(
                offset for _, offset, partition in page if partition == self._number and from_offset <= offset < until
            )
            if len(places) > 2 * MAX_PLACES:
                places = array("q", sorted(places)[:MAX_PLACES])
                until = places[-1] + 1
            after, seen = page[-1], seen + len(page)
            if len(page) < INDEX_PAGE:
                break
            yield _END_OF_TURN
            if seen > to_offset - from_offset:
                return None, to_offset
        return _Places(array("q", sorted(places))), until

    def _facts(self, record: Record) -> Iterator[Fact | int]:
        entry = None if record.key is None else self._history.entry_at(record.key, self._number, record.offset)
        if entry is None or entry.verdict.is_untimed or entry.name in _LOG_EVENTS:
            return
        yield from self._fold_up_to(entry.key, record.offset)
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

    def _fold_up_to(self, key: str, offset: int) -> Iterator[int]:
        """Bring a key to its state right before an offset, unless it is there. A step for each record of the past."""
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
                yield _NO_PROGRESS
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


class _Places:
    """Offsets that are wanted, in their order, taken in runs."""

    def __init__(self, offsets: Sequence[int]) -> None:
        self._offsets = offsets

    def next_run(self, offset: int, until: int) -> tuple[int, int]:
        """The next place from `offset` on, and how many records to read there; `until` and none after the last."""
        offsets = self._offsets
        at = bisect_left(offsets, offset)
        if at == len(offsets):
            return until, 0
        first = last = offsets[at]
        while at + 1 < len(offsets) and offsets[at + 1] <= min(last + 1 + MAX_GAP, first + PAGE - 1):
            at += 1
            last = offsets[at]
        return first, last - first + 1


def without_replacement(record: Record) -> bytes | None:
    """The `created` record of a session as if it had replaced none: the one before it is not available."""
    decoded = decode(record.key, record.value)
    if isinstance(decoded, Verdict) or not isinstance(decoded[0], events.Created):
        return record.value
    event = decoded[0]
    return encode(replace(event, data=replace(event.data, replaces=None, reason=None, if_version=None)))

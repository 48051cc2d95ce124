"""The script of a copy: the records that the history of one log becomes in another, with other partitions.

Theory of operation. The source is folded, so every record comes with its verdict and its log time. The records of all
partitions are merged by log time, each goes to the partition that its key has in the target, and there the script folds
it a second time. A record is copied if that gives it an effect where it had one, and none where it had none. Nothing
but the source's records up to the ends and the target's partition count enters: the same history gives the same bytes,
so an interrupted copy is continued by writing the script again from its first record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec

from lastseen.bulk.ordered_pages import Pages, in_order_of_time
from lastseen.copying.comparison import Ledger
from lastseen.copying.retimed_event import with_log_time
from lastseen.engine import events, lifecycle
from lastseen.engine.clock import EARLIEST_MS, iso_from_ms, ms_from_iso
from lastseen.engine.codec import envelope, remember
from lastseen.engine.errors import ClockSkew
from lastseen.engine.events import MAX_RECORD_BYTES
from lastseen.engine.log.port import Message, Record
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import Session
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome, Partition

SOURCE = "/copy"
SUBJECT = "lastseen:import"
_FAR_MS = 2**62
_MARKS = (events.ImportStarted, events.ImportFinished)
_kind = {kind: kind.__dataclass_fields__["type"].default for kind in events.STORED_EVENTS}

LEFT_OUT = {
    "import_mark": "says that the source itself was imported; the copy has marks of its own",
    "clock_skew": "void for its clock; an import would believe it",
    "no_key": "void, and no log but Kafka can hold a record without a key",
    "tombstone": "void, and only Kafka can hold a record without a value",
    "too_large": "void, and larger than any record of ours",
    "would_apply": "void in the source, but not where its key's partition has other neighbours: an id used twice",
}
"""Why a record is not copied. All but the marks were void."""


@dataclass(slots=True)
class CopyFigures:
    """What became of the source's records. The same for the same history and partition count, in one run or in many."""

    records: int = 0
    """Records of the source."""
    copied: Counter[str] = field(default_factory=Counter)
    """By their verdict in the source."""
    left_out: Counter[str] = field(default_factory=Counter)
    """By reason (`LEFT_OUT`)."""
    retimed: int = 0
    """Copied with their log time for `time`, what the producer said in `senttime`; the rest byte for byte."""
    shortened: int = 0
    """Of these, records that lost attributes unknown to us, since they would have become too large."""
    moved: int = 0
    """Copied from a partition that is not their key's to the one that is."""
    judged_otherwise: Counter[str] = field(default_factory=Counter)
    """Void in the copy for another reason, `ended → no_session`: its partitions remember other endings."""
    lost: Counter[str] = field(default_factory=Counter)
    """Applied in the source and void in the copy, for what reason: keys or ids that stood in two partitions."""
    stand_ins: int = 0
    """Expiries that the copy got in place of records left out, which had found a session due."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: dict(sorted(each.items())) if isinstance(each, Counter) else each for name, each in plain.items()}


class CopyScript:
    """The records that a history becomes, message by message."""

    def __init__(self, source: Pages, ends: Sequence[int], partitions: int, latest_ms: int, is_open: bool) -> None:
        self.figures = CopyFigures()
        self.source_partitions = [Partition(number) for number in range(source.partitions)]
        self.ledger = Ledger(source.partitions)
        """What the source's records did, for the comparison with what the copy's do."""
        self.partitions = [Partition(number) for number in range(partitions)]
        """The target's, as the script expects them to become."""
        self._source = source
        self._ends = list(ends)
        self._latest_ms = latest_ms
        self._is_open = is_open

    def write(self) -> Iterator[Message]:
        """Every message of the copy, in order. The first names the source and the ends.

        Raises the source's errors, and `ClockSkew` where its log time lies in the future.
        """
        moments = in_order_of_time(self._source, self.source_partitions, self._ends)
        first = next(moments, None)
        at_ms = first.at_ms if first is not None and first.at_ms > EARLIEST_MS else 0
        yield from self._marks(events.ImportStarted, "opening", at_ms)
        for moment in chain([] if first is None else [first], moments):
            self.ledger.take(self.source_partitions[moment.partition], moment.outcome)
            at_ms = max(at_ms, moment.at_ms)
            message = self._take(moment.outcome)
            if message is not None:
                self.partitions[message.partition].fold(self._next_record(message))
                yield message
        if not self._is_open:
            yield from self._marks(events.ImportFinished, "end", at_ms)

    def _marks(self, kind: type[Any], name: str, at_ms: int) -> Iterator[Message]:
        for number, partition in enumerate(self.partitions):
            fields: dict[str, Any] = {"copy_of": self._source.identity}
            if kind is events.ImportStarted and number == 0:
                fields["ends"] = self._ends
            event_id = f"copy-{name}-{number}"
            value = envelope(_kind[kind], event_id, SOURCE, SUBJECT, iso_from_ms(at_ms), fields)
            message = Message(number, SUBJECT, value)
            partition.fold(self._next_record(message))
            yield message

    def _next_record(self, message: Message) -> Record:
        number, key, value = message
        return Record(number, self.partitions[number].checkpoint, _FAR_MS, key, value)

    def _take(self, outcome: Outcome) -> Message | None:
        """What becomes of one record; `None` if it is left out."""
        record, event, verdict, at_ms = outcome[:4]
        figures = self.figures
        figures.records += 1
        key, value = record.key, record.value
        if key is None or value is None or event is None or verdict is Verdict.CLOCK_SKEW or isinstance(event, _MARKS):
            return self._take_void(record, event, verdict)
        if at_ms > self._latest_ms:
            raise ClockSkew(
                f"partition {record.partition}, offset {record.offset}: the source took it at {iso_from_ms(at_ms)},"
                " which is in the future, and only what has happened can be imported; set this machine's clock, and"
                " start again"
            )
        target = self.partitions[partition_of(key, len(self.partitions))]
        session = target.find(key)
        judged = lifecycle.decide(event, session, at_ms, target)
        if judged is not verdict:
            if judged is Verdict.APPLIED:
                figures.left_out["would_apply"] += 1
                return self._stand_in(record, at_ms, session, target.number)
            if verdict is Verdict.APPLIED:
                figures.lost[judged.label] += 1
            else:
                figures.judged_otherwise[f"{verdict.label} → {judged.label}"] += 1
        if event.time != iso_from_ms(at_ms) and ms_from_iso(event.time) != at_ms:
            value, event, is_short = with_log_time(event, value, at_ms)
            figures.retimed += 1
            figures.shortened += is_short
        # The script's own fold need not parse it again; the one that reads the copy back parses everything.
        remember(value, event, at_ms)
        figures.copied[verdict.label] += 1
        if record.partition != partition_of(key, len(self.source_partitions)):
            figures.moved += 1
        return Message(target.number, key, value)

    def _take_void(self, record: Record, event: events.StoredEvent | None, verdict: Verdict) -> Message | None:
        """A record that is void for its form or its clock, or that marks an import."""
        key, value = record.key, record.value
        reason = None
        if event is not None:
            reason = "clock_skew" if verdict is Verdict.CLOCK_SKEW else "import_mark"
        elif key is None:
            reason = "no_key"
        elif value is None:
            reason = "tombstone"
        elif len(value) > MAX_RECORD_BYTES:
            reason = "too_large"
        if reason is not None or key is None or value is None:
            self.figures.left_out[reason or ""] += 1
            return None
        # Its form depends on nothing but key and value: it stays what it is.
        self.figures.copied[verdict.label] += 1
        return Message(partition_of(key, len(self.partitions)), key, value)

    def _stand_in(self, record: Record, at_ms: int, session: Session | None, number: int) -> Message | None:
        """In place of a record that is left out, an expiry, if it finds a session due: it had ended that."""
        due_ms = None if session is None else session.deadline_ms()
        if session is None or due_ms is None or at_ms < due_ms:
            return None
        self.figures.stand_ins += 1
        fields = {
            "session_id": session.session_id, "reason": session.reason_at(due_ms), "deadline_ms": max(due_ms, 0),
        }  # fmt: skip
        event_id = f"copy-{record.partition}-{record.offset}"
        value = envelope(_kind[events.Expired], event_id, SOURCE, session.key, iso_from_ms(at_ms), fields)
        return Message(number, session.key, value)


class Opening(msgspec.Struct):
    """What the first record of a copy says."""

    copy_of: str
    ends: list[int]


class _Marked(msgspec.Struct):
    data: Opening


def opening_of(record: Record) -> Opening | None:
    """What a copy's first record says of its source; `None` if it says nothing of the kind."""
    try:
        return msgspec.json.decode(record.value or b"", type=_Marked).data
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None

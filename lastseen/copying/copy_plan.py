"""The plan of a copy: the records that the history of one log becomes in another, with other partitions.

Theory of operation. The source is folded, so every record comes with its verdict and its log time. The records of all
partitions are merged by log time, each goes to the partition that its key has in the target, and there the plan folds
it a second time. A record is copied if that gives it an effect where it had one, and none where it had none. The plan
depends on nothing but the source's records up to the ends and the target's partition count: the same history gives the
same bytes, so an interrupted copy is continued by making the plan again from its first record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import Any

import msgspec

from lastseen.bulk.ordered_pages import ReadableLog, in_order_of_time
from lastseen.copying.comparison import Ledger
from lastseen.copying.retimed_event import with_log_time
from lastseen.engine import events, lifecycle
from lastseen.engine.clock import EARLIEST_MS, iso_from_ms, ms_from_iso
from lastseen.engine.codec import envelope, remember
from lastseen.engine.errors import ClockSkew
from lastseen.engine.events import MAX_RECORD_BYTES
from lastseen.engine.genesis import SUBJECT, genesis
from lastseen.engine.log.port import Message, Record
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import Session
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome, Partition

SOURCE = "/copy"
_FAR_MS = 2**62
_kind = {kind: kind.__dataclass_fields__["type"].default for kind in events.STORED_EVENTS}

LEFT_OUT = {
    "log_event": "describes how the source itself was made or imported; the copy has its own such records",
    "control": "a marker of the source itself, at the end of a transaction",
    "transactional": "void as part of a transaction; in the copy it would take effect",
    "unreadable": "void as part of a batch that cannot be unpacked: its content is unknown",
    "wrong_partition": "void in another partition than its key's; in the copy it would take effect",
    "clock_skew": "void for its clock; an import would accept it",
    "no_key": "void, and no log but Kafka can hold a record without a key",
    "tombstone": "void, and only Kafka can hold a record without a value",
    "too_large": "void, and larger than any record of lastseen",
    "would_apply": "void in the source, but not in the target, whose partitions hold other keys: an id used twice",
}
"""Why a record is not copied. All but `log_event` were void."""


@dataclass(slots=True)
class CopyFigures:
    """Counts of what was done with the source's records. They depend on the history and the partition count, not on how
    many runs the copy took."""

    records: int = 0
    """Records of the source."""
    copied: Counter[str] = field(default_factory=Counter)
    """By their verdict in the source."""
    left_out: Counter[str] = field(default_factory=Counter)
    """By reason (`LEFT_OUT`)."""
    retimed: int = 0
    """Copied with their log time as `time`, and the producer's time as `senttime`; the rest byte for byte."""
    shortened: int = 0
    """Of these, records that lost attributes unknown to us, since they would have become too large."""
    moved: int = 0
    """Copied from the wrong partition for their key to the right one."""
    judged_otherwise: Counter[str] = field(default_factory=Counter)
    """Void in the copy for another reason, `ended → no_session`: its partitions remember other endings."""
    lost: Counter[str] = field(default_factory=Counter)
    """Applied in the source and void in the copy, by reason: keys or ids that were in two partitions."""
    stand_ins: int = 0
    """Expiries that replace records left out, which had found a session due."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: dict(sorted(each.items())) if isinstance(each, Counter) else each for name, each in plain.items()}


class CopyPlan:
    """The records that a history becomes, message by message."""

    def __init__(
        self, source: ReadableLog, ends: Sequence[int], partitions: int, latest_ms: int, is_open: bool
    ) -> None:
        self.figures = CopyFigures()
        self.source_partitions = [Partition(number) for number in range(source.partitions)]
        self.ledger = Ledger(source.partitions)
        """The effects of the source's records, to be compared with those of the copy's."""
        self.partitions = [Partition(number) for number in range(partitions)]
        """The target's, as the plan expects them."""
        self._source = source
        self._ends = list(ends)
        self._latest_ms = latest_ms
        self._is_open = is_open

    def messages(self) -> Iterator[Message]:
        """Every message of the copy, in order. The first names the source and the ends.

        Raises the source's errors, and `ClockSkew` if its log time is in the future.
        """
        outcomes = in_order_of_time(self._source, self.source_partitions, self._ends)
        first = next(outcomes, None)
        at_ms = first.at_ms if first is not None and first.at_ms > EARLIEST_MS else 0
        yield from self._opening(at_ms)
        for timed in chain([] if first is None else [first], outcomes):
            self.ledger.take(self.source_partitions[timed.partition], timed.outcome)
            at_ms = max(at_ms, timed.at_ms)
            message = self._take(timed.outcome)
            if message is not None:
                self.partitions[message.partition].fold(self._next_record(message))
                yield message
        if not self._is_open:
            yield from self._end(at_ms)

    def _opening(self, at_ms: int) -> Iterator[Message]:
        """The genesis records. The same copy has the same bytes wherever it is kept: its id comes from the source."""
        name = f"{self._source.identity}:{self._ends}:{len(self.partitions)}"
        log_id = blake2b(name.encode(), digest_size=16).hexdigest()
        for number, partition in enumerate(self.partitions):
            says: dict[str, Any] = {"copy_of": self._source.identity}
            if number == 0:
                says["ends"] = self._ends
            message = genesis(
                log_id, number, len(self.partitions), at_ms,
                source=SOURCE, event_id=f"copy-opening-{number}", imports=True, more=says,
            )  # fmt: skip
            partition.fold(self._next_record(message))
            yield message

    def _end(self, at_ms: int) -> Iterator[Message]:
        says = {"copy_of": self._source.identity}
        for number, partition in enumerate(self.partitions):
            kind, event_id = _kind[events.ImportFinished], f"copy-end-{number}"
            message = Message(number, SUBJECT, envelope(kind, event_id, SOURCE, SUBJECT, iso_from_ms(at_ms), says))
            partition.fold(self._next_record(message))
            yield message

    def _next_record(self, message: Message) -> Record:
        number, key, value = message
        return Record(number, self.partitions[number].checkpoint, _FAR_MS, key, value)

    def _take(self, outcome: Outcome) -> Message | None:
        """The copy of one record; `None` if it is left out."""
        record, event, verdict, at_ms = outcome[:4]
        figures = self.figures
        figures.records += 1
        key, value = record.key, record.value
        if (
            key is None
            or value is None
            or event is None
            or verdict in (Verdict.CLOCK_SKEW, Verdict.WRONG_PARTITION)
            or isinstance(event, events.LOG_EVENTS)
        ):
            return self._take_void(record, event, verdict)
        if at_ms > self._latest_ms:
            raise ClockSkew(
                f"partition {record.partition}, offset {record.offset}: the source accepted it at {iso_from_ms(at_ms)},"
                " which is in the future, and only the past can be imported; correct this machine's clock, and"
                " start again"
            )
        target = self.partitions[partition_of(key, len(self.partitions))]
        session = target.find(key)
        judged = lifecycle.decide(event, session, at_ms, target)
        if judged is not verdict:
            if judged is Verdict.APPLIED:
                figures.left_out["would_apply"] += 1
                return self._replacement(record, at_ms, session, target.number)
            if verdict is Verdict.APPLIED:
                figures.lost[judged.label] += 1
            else:
                figures.judged_otherwise[f"{verdict.label} → {judged.label}"] += 1
        if event.time != iso_from_ms(at_ms) and ms_from_iso(event.time) != at_ms:
            value, event, is_short = with_log_time(event, value, at_ms)
            figures.retimed += 1
            figures.shortened += is_short
        # The plan's own fold need not parse it again; the one that reads the copy back parses everything.
        remember(value, event, at_ms)
        figures.copied[verdict.label] += 1
        if record.partition != partition_of(key, len(self.source_partitions)):
            figures.moved += 1
        return Message(target.number, key, value)

    def _take_void(self, record: Record, event: events.StoredEvent | None, verdict: Verdict) -> Message | None:
        """A record that holds no event, is void for its clock, or marks an import."""
        key, value = record.key, record.value
        reason = None
        if record.mark is not None:
            reason = record.mark.name.lower()
        elif verdict is Verdict.WRONG_PARTITION:
            reason = "wrong_partition"
        elif event is not None:
            reason = "clock_skew" if verdict is Verdict.CLOCK_SKEW else "log_event"
        elif key is None:
            reason = "no_key"
        elif value is None:
            reason = "tombstone"
        elif len(value) > MAX_RECORD_BYTES:
            reason = "too_large"
        if reason is not None or key is None or value is None:
            self.figures.left_out[reason or ""] += 1
            return None
        # Whether it is malformed depends on key and value alone: it is in the copy too.
        self.figures.copied[verdict.label] += 1
        return Message(partition_of(key, len(self.partitions)), key, value)

    def _replacement(self, record: Record, at_ms: int, session: Session | None, number: int) -> Message | None:
        """The expiry that replaces a record left out, if that had ended a session that was due."""
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
    """The data of the first record of a copy."""

    copy_of: str
    ends: list[int]


class _Marked(msgspec.Struct):
    data: Opening


def opening_of(record: Record) -> Opening | None:
    """The source and ends in a copy's first record; `None` if the record is not that of a copy."""
    try:
        return msgspec.json.decode(record.value or b"", type=_Marked).data
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None

"""What is wrong with a record by itself: faults of its producer, which no state of a session excuses, and how to fix
each.

The fold voids such a record; here the reason is given more exactly.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from lastseen.engine import events, lifecycle
from lastseen.engine.codec import decode, why_malformed
from lastseen.engine.log.port import Mark, Record
from lastseen.engine.partitioner import partition_of
from lastseen.engine.verdicts import Verdict
from lastseen.projections.sources import source_of


class Fault(enum.StrEnum):
    """Why a record is void whatever lives under its key. All but `UNREADABLE` are named like their verdicts."""

    CONTROL = "control"
    TRANSACTIONAL = "transactional"
    UNREADABLE = "unreadable"
    MALFORMED = "malformed"
    WRONG_PARTITION = "wrong_partition"
    UNKNOWN_TYPE = "unknown_type"
    CLOCK_SKEW = "clock_skew"


FIXES = {
    Fault.CONTROL: "markers of transactions: the producer's settings must have no transactional.id",
    Fault.TRANSACTIONAL: "remove transactional.id from the producer's settings (an exactly-once sink has one): events"
    " need no transaction, since each has an id and is applied at most once",
    Fault.UNREADABLE: "send batches that inflate to at most 32 MiB: lower batch.size and linger.ms, or choose another"
    " compression.type; a client whose batches do not inflate at all is broken",
    Fault.MALFORMED: "send CloudEvents in structured JSON, the session key as the record's key and as its subject, and"
    " validate against the schemas: lastseen's docs/reference/events.md",
    Fault.WRONG_PARTITION: "choose the partition by murmur2 of the key: partitioner=murmur2_random for librdkafka"
    " clients, kafkajs' DefaultPartitioner, kafka-go's Murmur2Balancer; and never name a partition oneself",
    Fault.UNKNOWN_TYPE: "send only types that docs/reference/events.md has; another kind of event needs another topic",
    Fault.CLOCK_SKEW: "synchronise the clock of the producer's machine, and set time when the event is sent: an event"
    " may be 60 s ahead of the log's clock, or 10 minutes behind",
}
"""How to fix each fault."""
_MARKED = {
    Mark.CONTROL: (Fault.CONTROL, "a marker at the end of a transaction"),
    Mark.TRANSACTIONAL: (Fault.TRANSACTIONAL, "it belongs to a transaction"),
    Mark.UNREADABLE: (Fault.UNREADABLE, "its batch does not inflate, or to more than 32 MiB"),
}


class Judged(NamedTuple):
    """A record, seen by itself."""

    source: str
    """The source that it names, or `sources.UNKNOWN`."""
    fault: Fault | None
    says: str
    """What is wrong with this record."""
    skew_ms: int | None = None
    """By how much the event's time is ahead of the log's; `None` where there is no event of a session."""
    ends_import: bool = False
    """Whether the records before it are imported history, which has times of its own."""


def judged(record: Record, partitions: int) -> Judged:
    """What is wrong with a record on a log of so many partitions, and whose it is."""
    if record.mark is not None:
        fault, says = _MARKED[record.mark]
        return Judged(source_of(record.value), fault, says)
    decoded = decode(record.key, record.value)
    belongs = record.partition if record.key is None else partition_of(record.key, partitions)
    if decoded is Verdict.MALFORMED:
        return Judged(source_of(record.value), Fault.MALFORMED, why_malformed(record.key, record.value))
    is_about_log = not isinstance(decoded, Verdict) and isinstance(decoded[0], events.LOG_EVENTS)
    if belongs != record.partition and not is_about_log:
        says = f"its key belongs to partition {belongs}, and it is in {record.partition}"
        return Judged(source_of(record.value), Fault.WRONG_PARTITION, says)
    if isinstance(decoded, Verdict):
        return Judged(source_of(record.value), Fault.UNKNOWN_TYPE, "its type is none of ours")
    event, sent_at_ms = decoded
    if is_about_log:
        return Judged(event.source, None, "", None, isinstance(event, events.ImportFinished))
    skew_ms = sent_at_ms - record.timestamp_ms
    if not lifecycle.is_fresh(sent_at_ms, record.timestamp_ms):
        says = f"its time is {abs(skew_ms) / 1000:,.0f} s {'ahead of' if skew_ms > 0 else 'behind'} the log's clock"
        return Judged(event.source, Fault.CLOCK_SKEW, says, skew_ms)
    return Judged(event.source, None, "", skew_ms)

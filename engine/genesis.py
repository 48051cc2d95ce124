"""The genesis record: the first of each partition, which says what log it is and whether a history is imported into it.

What makes a log writes it: `open_log` for a file or memory, `lastseen topics create` for a topic, an import for the log
that it fills. A log without it is refused: it may be anything, and the fold takes an import only from this record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import decode, envelope
from lastseen.engine.errors import LogCorrupt, LogMismatch, NoGenesis
from lastseen.engine.events import Opened, OpenedData
from lastseen.engine.identifiers import new_event_id
from lastseen.engine.log.port import Message, Record
from lastseen.engine.verdicts import Verdict

SUBJECT = "lastseen:log"
"""The key of records about the log itself. CloudEvents allows no empty subject."""
SOURCE = "/lastseen/log"
_TYPE = Opened.__dataclass_fields__["type"].default


def genesis(
    log_id: str,
    partition: int,
    partitions: int,
    at_ms: int,
    *,
    source: str,
    event_id: str,
    imports: bool = False,
    more: Mapping[str, Any] | None = None,
) -> Message:
    """The first record of a partition. An import says in `more` what it imports, so that it can be continued."""
    fields = {
        "log_id": log_id, "partition": partition, "partitions": partitions, "imports": imports, **(more or {}),
    }  # fmt: skip
    return Message(partition, SUBJECT, envelope(_TYPE, event_id, source, SUBJECT, iso_from_ms(at_ms), fields))


def genesis_records(log_id: str, partitions: int, at_ms: int) -> list[Message]:
    """The first records of a new log that nothing is imported into, one for each partition."""
    return [
        genesis(log_id, number, partitions, at_ms, source=SOURCE, event_id=new_event_id(at_ms))
        for number in range(partitions)
    ]


class BeginningOfLog(Protocol):
    """The part of a log's interface that reading its first records needs."""

    @property
    def partitions(self) -> int:
        """The number of partitions (`port.Log`)."""
        ...

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on (`port.Log`)."""
        ...


def genesis_of(record: Record) -> OpenedData | None:
    """What a partition's first record says of the log; `None` if it is no genesis record of this partition."""
    decoded = decode(record.key, record.value) if record.mark is None and record.offset == 0 else Verdict.MALFORMED
    if isinstance(decoded, Verdict) or not isinstance(decoded[0], Opened):
        return None
    says = decoded[0].data
    return says if says.partition == record.partition < says.partitions else None


def check_begun(ends: Sequence[int]) -> None:
    """Raise `NoGenesis` where a partition is empty, by the end offsets of a log: its next record would be its first."""
    for number, end in enumerate(ends):
        if not end:
            raise NoGenesis(
                f"partition {number} of the log is empty, and each must begin with a genesis record: on Kafka, run"
                " lastseen topics create again, which completes the topic; if an import was interrupted, start that"
                " again"
            )


def check_genesis(log: BeginningOfLog) -> str | None:
    """The id of the log, by the genesis records of its partitions; `None` where no beginning can be read any more.

    Raises `NoGenesis` where a partition is empty or begins with another record, `LogMismatch` where the records do not
    belong to one log of so many partitions, and `LogUnavailable`.
    """
    ends = [1] * log.partitions
    log_id: str | None = None
    for number in range(log.partitions):
        try:
            found = log.read(number, 0, 1)
        except (LogMismatch, LogCorrupt):
            continue  # deleted or damaged: the follower stops at it, unless a snapshot was taken beyond it
        if not found:
            ends[number] = 0
        if not found or found[0].offset != 0:
            continue  # deleted as well, if there are others
        says = _genesis_in(found[0])
        if says.partitions != log.partitions:
            raise LogMismatch(
                f"the log has {log.partitions} partitions, and the genesis record of partition {number} says"
                f" {says.partitions}: partitions cannot be added to a log, since keys would move. Copy it into a new"
                " one with lastseen log copy"
            )
        if log_id is not None and says.log_id != log_id:
            raise LogMismatch(
                f"partition {number} begins as part of log {says.log_id}, and another as part of {log_id}: two programs"
                " have made this log. Delete it and make it again, or restore it from a copy"
            )
        log_id = says.log_id
    check_begun(ends)
    return log_id


def _genesis_in(first: Record) -> OpenedData:
    says = genesis_of(first)
    if says is None:
        raise NoGenesis(
            f"partition {first.partition} of the log does not begin with a genesis record: it is not a log of lastseen,"
            " or one of format 1, or it is damaged. Give another log; bring one of format 1 into a new one with"
            " lastseen log copy; restore a damaged one from a copy; make a new topic with lastseen topics create"
        )
    return says

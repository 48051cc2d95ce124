"""Reading a log from end to end, page by page, with nothing in memory but the pages and the fold's state."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from lastseen.engine.clock import EARLIEST_MS
from lastseen.engine.errors import LogMismatch
from lastseen.engine.log.port import Record
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome, Partition

PAGE_RECORDS = 2_000
"""Records in memory at a time; when all partitions are read at once, they share it."""
FEWEST = 16
_UNTIMED = (Verdict.CLOCK_SKEW, Verdict.WRONG_PARTITION)


def records(log: ReadableLog, partition: int, end: int, page: int = PAGE_RECORDS) -> Iterator[Record]:
    """The records of a partition from its beginning to `end`. Raises `LogMismatch` where one is missing."""
    offset = 0
    while offset < end:
        found = log.read(partition, offset, min(page, end - offset))
        for record in found:
            if record.offset != offset:
                break
            offset += 1
            yield record
        if not found or found[-1].offset + 1 != offset:
            raise LogMismatch(
                f"partition {partition}: the record at offset {offset} is missing from the log, so its content is"
                " unknown. Restore the log first"
            )


class ReadableLog(Protocol):
    """The part of a log's interface that reading from end to end needs."""

    @property
    def identity(self) -> str:
        """Identifies this log (`engine.log.port.Log`)."""
        ...

    @property
    def partitions(self) -> int:
        """The number of partitions (`engine.log.port.Log`)."""
        ...

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on (`engine.log.port.Log`)."""
        ...

    def end_offsets(self) -> list[int]:
        """The offset after the last record of each partition (`engine.log.port.Log`)."""
        ...


class TimedOutcome(NamedTuple):
    """An outcome, and its position in the order of all partitions. Sorts by time, and never compares outcomes."""

    at_ms: int
    """The latest log time of its partition so far: within a partition the order is that of the log."""
    partition: int
    offset: int
    outcome: Outcome


def in_order_of_time(log: ReadableLog, partitions: Sequence[Partition], ends: Sequence[int]) -> Iterator[TimedOutcome]:
    """Fold every record before `ends` into `partitions`, and yield the outcomes of all partitions in order of time.

    The order depends on the records alone. Raises the log's errors.
    """
    page = max(PAGE_RECORDS // len(partitions), FEWEST)
    streams = [_outcomes(log, each, end, page) for each, end in zip(partitions, ends, strict=True)]
    return streams[0] if len(streams) == 1 else heapq.merge(*streams)


def _outcomes(log: ReadableLog, partition: Partition, end: int, page: int) -> Iterator[TimedOutcome]:
    latest_ms = EARLIEST_MS
    number, fold = partition.number, partition.fold
    for record in records(log, partition.number, end, page):
        outcome = fold(record)
        # A malformed record has no time, and one that is void for its clock or its partition may claim any.
        if outcome.at_ms > latest_ms and outcome.event is not None and outcome.verdict not in _UNTIMED:
            latest_ms = outcome.at_ms
        yield TimedOutcome(latest_ms, number, record.offset, outcome)

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
"""Records in memory at a time; where all partitions are read at once, they share it."""
FEWEST = 16


def records(log: Pages, partition: int, end: int, page: int = PAGE_RECORDS) -> Iterator[Record]:
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
                f"partition {partition}: the record at offset {offset} is missing from the log, so what it held cannot"
                " be known. Restore the log first"
            )


class Pages(Protocol):
    """What can be read like a log."""

    @property
    def identity(self) -> str:
        """Names this very log (`engine.log.port.Log`)."""
        ...

    @property
    def partitions(self) -> int:
        """How many it has, numbered from 0."""
        ...

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on (`engine.log.port.Log`)."""
        ...

    def end_offsets(self) -> list[int]:
        """The offset after the last record of each partition (`engine.log.port.Log`)."""
        ...


class Moment(NamedTuple):
    """An outcome in its place among those of all partitions. Sorts by time, and never comes to compare outcomes."""

    at_ms: int
    """The latest log time of its partition by then: within a partition the order is that of the log."""
    partition: int
    offset: int
    outcome: Outcome


def in_order_of_time(log: Pages, partitions: Sequence[Partition], ends: Sequence[int]) -> Iterator[Moment]:
    """Fold every record before `ends` into `partitions`, and give the outcomes as they followed each other in time.

    The order depends on the records alone. Raises the log's errors.
    """
    page = max(PAGE_RECORDS // len(partitions), FEWEST)
    lines = [_outcomes(log, each, end, page) for each, end in zip(partitions, ends, strict=True)]
    return lines[0] if len(lines) == 1 else heapq.merge(*lines)


def _outcomes(log: Pages, partition: Partition, end: int, page: int) -> Iterator[Moment]:
    latest_ms = EARLIEST_MS
    number, fold = partition.number, partition.fold
    for record in records(log, partition.number, end, page):
        outcome = fold(record)
        # What is void for its form has no time, and what is void for its clock may say any.
        if outcome.at_ms > latest_ms and outcome.event is not None and outcome.verdict is not Verdict.CLOCK_SKEW:
            latest_ms = outcome.at_ms
        yield Moment(latest_ms, number, record.offset, outcome)

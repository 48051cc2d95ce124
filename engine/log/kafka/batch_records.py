"""The records of one fetched batch, whatever its producer has put into it.

A batch whose checksum is right is input: its bytes are what a producer sent. If they do not inflate, or are no records,
each of its offsets has a void record. So it has where the batch is the marker at the end of a transaction; and the
records of a transaction are void whether it was committed, aborted or is still open, so that it delays no reader.

A megabyte may hold millions of records, so long batches are not made into records at once, but a page at a time; void
records are made when they are read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, overload

from lastseen.engine.errors import LogMismatch
from lastseen.engine.log.kafka.decompression import Unreadable, inflate
from lastseen.engine.log.kafka.library_internals import batch_body
from lastseen.engine.log.kafka.records import decode_from
from lastseen.engine.log.port import Mark, Record

MAX_RECORDS_AT_ONCE = 10_000
"""A batch of more records is made into records page by page: as many as librdkafka puts into one by default."""
MAX_BODY_AT_ONCE_BYTES = 1024 * 1024
PAGE_RECORDS = 256
_logger = logging.getLogger("lastseen")


def records_of_batch(partition: int, batch: Any) -> Sequence[Record]:
    """The records of a batch with a right checksum, one for each of its offsets. Raises `LogMismatch`."""
    start, count = batch.base_offset, batch.records_count
    if batch.is_control_batch:
        return VoidRecords(partition, start, batch.next_offset - start, batch.max_timestamp, Mark.CONTROL)
    if count != batch.next_offset - start:
        raise LogMismatch(
            f"partition {partition}: of the offsets {start} to {batch.next_offset - 1} the topic has only"
            f" {count} records: it was compacted, and a log needs every record. Use a topic with cleanup.policy=delete"
        )
    log_append_time_ms = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else None
    mark = Mark.TRANSACTIONAL if batch.is_transactional else None
    try:
        body = inflate(batch.compression_type, batch_body(batch))
        return records_in(body, count, partition, start, batch.first_timestamp, log_append_time_ms, mark)
    except Unreadable as error:
        _warn(partition, start, batch.next_offset - 1, str(error))
        return VoidRecords(partition, start, count, batch.max_timestamp, mark or Mark.UNREADABLE)


_warning = threading.Lock()  # the cache alone lets two threads in that ask for the same at once


def _warn(partition: int, first: int, last: int, reason: str) -> None:
    with _warning:
        _warn_once(partition, first, last, reason)


@lru_cache(maxsize=1_024)  # a batch that is read again is not reported again
def _warn_once(partition: int, first: int, last: int, reason: str) -> None:
    _logger.warning(
        "partition %d: the batch at the offsets %d to %d cannot be read (%s): its records are void",
        partition, first, last, reason,
    )  # fmt: skip


def records_in(
    body: bytes, count: int, partition: int, base_offset: int, first_timestamp_ms: int,
    log_append_time_ms: int | None, mark: Mark | None = None,
) -> Sequence[Record]:  # fmt: skip
    """The records that stand in the body of a batch. Raises `Unreadable` where it is not as many records."""

    def decode_page(index: int, first: int, size: int) -> tuple[list[Record], int]:
        return decode_from(
            body, index, first, size, partition, base_offset, first_timestamp_ms, log_append_time_ms, mark
        )

    if count <= MAX_RECORDS_AT_ONCE and len(body) <= MAX_BODY_AT_ONCE_BYTES:
        records, end = decode_page(0, 0, count)
        _check_end(end, body)
        return records
    starts, index = [], 0
    for first in range(0, count, PAGE_RECORDS):
        starts.append(index)
        _, index = decode_page(index, first, min(PAGE_RECORDS, count - first))
    _check_end(index, body)
    return PagedRecords(count, starts, decode_page)


def _check_end(index: int, body: bytes) -> None:
    if index != len(body):
        raise Unreadable("there are other bytes after its records")


class _RecordsOnDemand(Sequence[Record]):
    """Records that are made when they are read."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, wanted: int) -> Record: ...
    @overload
    def __getitem__(self, wanted: slice) -> list[Record]: ...
    def __getitem__(self, wanted: int | slice) -> Record | list[Record]:
        if isinstance(wanted, int):
            return self._make(range(self._count)[wanted], 1)[0]
        first, end, _ = wanted.indices(self._count)
        return self._make(first, end - first) if end > first else []

    def _make(self, first: int, count: int) -> list[Record]:
        raise NotImplementedError


class VoidRecords(_RecordsOnDemand):
    """A void record for each offset of a batch that holds none to be read: there is neither a key nor a value."""

    def __init__(self, partition: int, start: int, count: int, at_ms: int, mark: Mark) -> None:
        super().__init__(count)
        self._partition, self._start, self._at_ms, self._mark = partition, start, at_ms, mark

    def _make(self, first: int, count: int) -> list[Record]:
        start = self._start + first
        return [
            Record(self._partition, offset, self._at_ms, None, None, self._mark)
            for offset in range(start, start + count)
        ]


class PagedRecords(_RecordsOnDemand):
    """The records of a long batch, which stays as bytes."""

    def __init__(
        self, count: int, starts: Sequence[int], decode_page: Callable[[int, int, int], tuple[list[Record], int]]
    ) -> None:
        """`starts` are the places in the bytes at which pages of `PAGE_RECORDS` begin."""
        super().__init__(count)
        self._starts, self._decode_page = starts, decode_page

    def _make(self, first: int, count: int) -> list[Record]:
        page = first // PAGE_RECORDS
        before = first - page * PAGE_RECORDS
        records, _ = self._decode_page(self._starts[page], page * PAGE_RECORDS, before + count)
        return records[before:] if before else records

"""Fetching with kafka-python's consumer: whole record batches, or, where that cannot be, record by record.

kafka-python's fetcher makes an object of each record, at 11 µs. Here a batch stays as the broker sent it until its
records are read (`record_runs.Chunk`), at 3 µs each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from kafka import TopicPartition, errors
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder

from lastseen.engine.errors import LogCorrupt, LogMismatch
from lastseen.engine.log.kafka.client import REQUEST_TIMEOUT_MS, open_consumer
from lastseen.engine.log.kafka.library_internals import (
    FetchedBatch,
    PartitionBatches,
    batch_body,
    give_whole_batches,
    watch_missing_topic,
)
from lastseen.engine.log.kafka.record_runs import Chunk
from lastseen.engine.log.kafka.records import EVENT_HEADERS, decode
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.port import Record

_logger = logging.getLogger("lastseen")


class OffsetGone(Exception):
    """The broker has no record at the offset that a fetch was to go on from."""

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(partition, offset)
        self.partition, self.offset = partition, offset


def _chunk(partition: int, batch: Any) -> Chunk:
    """A batch, unopened."""
    start, end = batch.base_offset, batch.next_offset
    if batch.magic != 2 or not batch.validate_crc():
        return Chunk(start, end, batch.size_in_bytes, partial(_damaged, partition, start))
    if batch.is_control_batch:
        return Chunk(start, end, batch.size_in_bytes, partial(_transaction, partition, start))
    return Chunk(start, end, batch.size_in_bytes, partial(_open, partition, batch))


def _open(partition: int, batch: Any) -> list[Record]:
    count = batch.records_count
    if count != batch.next_offset - batch.base_offset:
        raise LogMismatch(
            f"partition {partition}: of the offsets {batch.base_offset} to {batch.next_offset - 1} the topic has only"
            f" {count} records: it was compacted, and a log needs every record. Use a topic with cleanup.policy=delete"
        )
    try:
        body = batch_body(batch)
    except errors.UnsupportedCodecError:
        raise LogCorrupt(
            f"partition {partition}: the batch at offset {batch.base_offset} is compressed in a way that cannot be read"
            " here: let producers use lz4, gzip or none, and leave the topic's compression.type=producer"
        ) from None
    except Exception:  # each codec has its own
        return _damaged(partition, batch.base_offset)
    at_ms = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else None
    return decode(body, count, partition, batch.base_offset, batch.first_timestamp, at_ms)


def _damaged(partition: int, offset: int) -> list[Record]:
    raise LogCorrupt(
        f"partition {partition}: the batch of records at offset {offset} does not match its checksum or its format: see"
        " what the broker says of its disk, and restore the topic from a replica or a copy"
    )


def _gap(partition: int, offset: int, end: int) -> list[Record]:
    raise LogMismatch(
        f"partition {partition}: there is no record at the offsets {offset} to {end - 1}: the topic was compacted, or"
        " a producer writes to it in transactions, and a log has no gaps. Use a topic of its own, made with: lastseen"
        " topics create"
    )


def _transaction(partition: int, offset: int) -> list[Record]:
    raise LogMismatch(
        f"partition {partition}, offset {offset}: the topic holds the end of a transaction there, which is no record: a"
        " log has no gaps. Find out who writes to this topic in transactions, and stop it; use another topic"
    )


def knows_whole_batches() -> bool:
    """Whether kafka-python reads batches as it did when this was written: both must find the same in a batch."""
    try:
        for codec in (0, 3):
            theirs = MemoryRecordsBuilder(2, codec, 1 << 20)
            sent = [(b"a", b"x" * 200), ("ключ".encode(), b""), (b"\xff", b"y" * 70_000), (b"", None)]
            for key, value in sent:
                theirs.append(1_700_000_000_000, key, value, list(EVENT_HEADERS))
            theirs.close()
            records = MemoryRecords(theirs.buffer())
            topic_partition = TopicPartition("probe", 3)
            fetched = PartitionBatches(0, topic_partition, records, None, None, True)
            chunks = _chunks_of_batches(3, fetched.take(10))
            found = [record[3:5] for each in chunks for record in each.records()]
            if fetched or fetched.next_fetch_offset != 4 or found != [
                ("a", b"x" * 200), ("ключ", b""), (None, b"y" * 70_000), ("", None),
            ]:  # fmt: skip
                return False
    except Exception as error:  # whatever has changed, the other way is open
        _logger.debug("kafka-python is not as expected: %r", error)
        return False
    return True


class Fetch:
    """A consumer of a topic's partitions that gives chunks. For one thread at a time."""

    def __init__(self, url: KafkaUrl, max_wait_ms: int, max_partition_bytes: int, bootstrap_timeout_ms: int) -> None:
        """Raises `LogError`."""
        self._topic = url.topic
        self._consumer = open_consumer(
            url,
            fetch_max_wait_ms=max_wait_ms,
            max_partition_fetch_bytes=max_partition_bytes,
            retry_backoff_ms=min(max_wait_ms, 50),
            bootstrap_timeout_ms=bootstrap_timeout_ms,
        )
        self.may_be_another_topic = False
        """Whether the broker has said since that there was no such topic: then it may be another one now."""
        self._next: dict[int, int] = {}
        """For each partition that is fetched, the offset after what was given."""
        self._to_chunks: Callable[[int, Iterable[Any]], list[Chunk]] = self._chunks_of_records
        if knows_whole_batches() and give_whole_batches(self._consumer):
            self._to_chunks = _chunks_of_batches
        else:
            _warn()
        if not watch_missing_topic(self._consumer, self._note_missing_topic):
            self._note_missing_topic()

    def _note_missing_topic(self) -> None:
        self.may_be_another_topic = True

    def assign(self, offsets: dict[int, int]) -> None:
        """Fetch these partitions, each from an offset on, and no others."""
        self._consumer.assign([TopicPartition(self._topic, partition) for partition in offsets])
        self._next.clear()
        for partition, offset in offsets.items():
            self.seek(partition, offset)
        # A partition that was assigned before is as it was, paused too.
        self.resume(list(offsets))

    def seek(self, partition: int, offset: int) -> None:
        """Go on with a partition from `offset`."""
        self._next[partition] = offset
        self._consumer.seek(TopicPartition(self._topic, partition), offset)

    def pause(self, partitions: Sequence[int]) -> None:
        """Fetch no more of these partitions for now."""
        self._consumer.pause(*[TopicPartition(self._topic, partition) for partition in partitions])

    def resume(self, partitions: Sequence[int]) -> None:
        """Fetch these partitions again."""
        self._consumer.resume(*[TopicPartition(self._topic, partition) for partition in partitions])

    def poll(self, timeout_ms: int) -> dict[int, list[Chunk]]:
        """What has come, by partition. Raises `OffsetGone`, `LogCorrupt`, `KafkaError`."""
        try:
            found = self._consumer.poll(timeout_ms=timeout_ms)
        except errors.OffsetOutOfRangeError as error:
            topic_partition, offset = next(iter(error.args[0].items()))
            raise OffsetGone(topic_partition.partition, offset) from None
        except errors.LogTruncationError as error:
            topic_partition, until = next(iter(error.divergent_offsets.items()))
            raise OffsetGone(topic_partition.partition, -1 if until is None else until.offset) from None
        except errors.CorruptRecordError as error:
            raise LogCorrupt(f"topic {self._topic}: {error}: restore it from a replica or a copy") from None
        if self._to_chunks is not _chunks_of_batches:
            found = {TopicPartition(self._topic, partition): () for partition in self._next} | found
        chunks = {each.partition: self._to_chunks(each.partition, records) for each, records in found.items()}
        return {partition: each for partition, each in chunks.items() if each}

    def offsets(self, partitions: Sequence[int], timeout_ms: int = REQUEST_TIMEOUT_MS, *, first: bool) -> list[int]:
        """The first offsets that there are, or those of the next records. Raises `KafkaError`."""
        topic_partitions = [TopicPartition(self._topic, partition) for partition in partitions]
        ask = self._consumer.beginning_offsets if first else self._consumer.end_offsets
        found = ask(topic_partitions, timeout_ms=timeout_ms)
        return [found[each] for each in topic_partitions]

    def _chunks_of_records(self, partition: int, found: Iterable[Any]) -> list[Chunk]:
        """Records that kafka-python has decoded, as chunks; it passes over gaps, which are chunks here as well."""
        chunks: list[Chunk] = []
        run: list[Record] = []
        expected = self._next[partition]
        for each in found:
            try:
                key = None if each.key is None else each.key.decode()
            except UnicodeDecodeError:
                key = None
            if each.offset != expected:
                chunks += [*_run(run), Chunk(expected, each.offset, 0, partial(_gap, partition, expected, each.offset))]
                run = []
            run.append(Record(partition, each.offset, each.timestamp, key, each.value))
            expected = each.offset + 1
        chunks += _run(run)
        end = self._consumer.position(TopicPartition(self._topic, partition))
        if end > expected:
            chunks.append(Chunk(expected, end, 0, partial(_gap, partition, expected, end)))
        self._next[partition] = end
        return chunks

    def close(self) -> None:
        """Release the consumer and its thread."""
        self._consumer.close(autocommit=False, timeout_ms=1_000)


def _chunks_of_batches(partition: int, found: Iterable[FetchedBatch]) -> list[Chunk]:
    return [_chunk(partition, each.batch) for each in found]


def _run(run: list[Record]) -> list[Chunk]:
    """Records that follow one another, as a chunk."""
    if not run:
        return []
    return [Chunk(run[0].offset, run[-1].offset + 1, sum(len(record.value or b"") for record in run), run.copy)]


_has_warned = False


def _warn() -> None:
    """Say once that reading is slow."""
    global _has_warned
    if not _has_warned:
        _logger.warning("this kafka-python is not the one that whole batches are read from: records are read singly")
        _has_warned = True

"""Fetching with kafka-python's consumer, by whole record batches.

kafka-python's fetcher makes an object of each record, at 11 µs. Here a batch stays as the broker sent it until its
records are read (`record_runs.Chunk`), at 3 µs each. Only so can a batch be inflated within bounds and its records be
void where it cannot be read; so there is no other way, and a kafka-python without this one is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from kafka import TopicPartition, errors
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder

from lastseen.engine.errors import LogCorrupt
from lastseen.engine.log.kafka.batch_records import records_of_batch
from lastseen.engine.log.kafka.client import REQUEST_TIMEOUT_MS, open_consumer
from lastseen.engine.log.kafka.library_internals import (
    FetchedBatch,
    PartitionBatches,
    UnreadableFetch,
    give_whole_batches,
    refuse_reading,
    watch_fetches,
)
from lastseen.engine.log.kafka.record_runs import Chunk
from lastseen.engine.log.kafka.records import EVENT_HEADERS
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.port import Record

_logger = logging.getLogger("lastseen")


class FetchDamaged(Exception):
    """What the broker has at an offset is no batch of records, twice in a row."""

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(partition, offset)
        self.partition, self.error = partition, damage_at(partition, offset)


class OffsetGone(Exception):
    """The broker has no record at the offset that a fetch was to go on from."""

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(partition, offset)
        self.partition, self.offset = partition, offset


def _chunk(partition: int, batch: Any, *, is_sound: bool) -> Chunk:
    """A batch, unopened."""
    start, end = batch.base_offset, batch.next_offset
    if not is_sound:
        return Chunk(start, end, batch.size_in_bytes, partial(_damaged, partition, start))
    return Chunk(start, end, batch.size_in_bytes, partial(records_of_batch, partition, batch))


def _damaged(partition: int, offset: int) -> list[Record]:
    raise damage_at(partition, offset)


def damage_at(partition: int, offset: int) -> LogCorrupt:
    """The error for a batch that is damaged at the broker."""
    return LogCorrupt(
        f"partition {partition}: the batch of records at offset {offset} does not match its checksum or its format:"
        " check the broker's log for errors of its disk, and restore the topic from a replica or a copy"
    )


def _is_sound(batch: Any) -> bool:
    """Whether a batch is of the format that we know, and as its producer sent it."""
    return bool(batch.magic == 2 and batch.validate_crc())


def check_library() -> None:
    """Raise `UnsupportedLibrary` where kafka-python does not give whole batches."""
    if not knows_whole_batches():
        refuse_reading()


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
            batches = [each.batch for each in fetched.take(10)]
            chunks = [_chunk(3, each, is_sound=_is_sound(each)) for each in batches]
            found = [record[3:5] for each in chunks for record in each.records()]
            if fetched or fetched.next_fetch_offset != 4 or found != [
                ("a", b"x" * 200), ("ключ", b""), (None, b"y" * 70_000), ("", None),
            ]:  # fmt: skip
                return False
    except Exception as error:  # whatever has changed, it is refused
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
        self._doubted: dict[int, int] = {}
        """For each partition, the offset of a batch that did not match its checksum, and is fetched once more."""
        if not give_whole_batches(self._consumer):
            self.close()
            refuse_reading()
        if not watch_fetches(self._consumer, self._note_missing_topic):
            self._note_missing_topic()

    def _note_missing_topic(self) -> None:
        self.may_be_another_topic = True

    def assign(self, offsets: dict[int, int]) -> None:
        """Fetch these partitions, each from an offset on, and no others."""
        self._consumer.assign([TopicPartition(self._topic, partition) for partition in offsets])
        for partition, offset in offsets.items():
            self.seek(partition, offset)
        # A partition that was assigned before is as it was, paused too.
        self.resume(list(offsets))

    def seek(self, partition: int, offset: int) -> None:
        """Go on with a partition from `offset`."""
        self._consumer.seek(TopicPartition(self._topic, partition), offset)

    def pause(self, partitions: Sequence[int]) -> None:
        """Fetch no more of these partitions for now."""
        self._consumer.pause(*[TopicPartition(self._topic, partition) for partition in partitions])

    def resume(self, partitions: Sequence[int]) -> None:
        """Fetch these partitions again."""
        self._consumer.resume(*[TopicPartition(self._topic, partition) for partition in partitions])

    def poll(self, timeout_ms: int) -> dict[int, list[Chunk]]:
        """What has come, by partition. Raises `OffsetGone`, `FetchDamaged`, `KafkaError`."""
        found: dict[int, list[Chunk]] = {}
        if self._poll(timeout_ms, found):
            # A caller that waits for the first batch of a partition gets it, or the error, in this call.
            self._poll(timeout_ms, found)
        return found

    def _poll(self, timeout_ms: int, chunks: dict[int, list[Chunk]]) -> bool:
        """Add to `chunks` what has come; whether a batch is fetched once more."""
        doubted = False
        for topic_partition, batches in self._fetched(timeout_ms).items():
            partition = topic_partition.partition
            for each in batches:
                is_sound = _is_sound(each.batch)
                if not is_sound and self._doubted.get(partition) != each.batch.base_offset:
                    self._fetch_again(partition, each.batch.base_offset)
                    doubted = True
                    break
                chunks.setdefault(partition, []).append(_chunk(partition, each.batch, is_sound=is_sound))
        return doubted

    def _fetched(self, timeout_ms: int) -> dict[TopicPartition, Iterable[FetchedBatch]]:
        try:
            return self._consumer.poll(timeout_ms=timeout_ms)  # type: ignore[no-any-return]
        except errors.OffsetOutOfRangeError as error:
            topic_partition, offset = next(iter(error.args[0].items()))
            raise OffsetGone(topic_partition.partition, offset) from None
        except errors.LogTruncationError as error:
            topic_partition, until = next(iter(error.divergent_offsets.items()))
            raise OffsetGone(topic_partition.partition, -1 if until is None else until.offset) from None
        except UnreadableFetch as damage:
            partition, offset = damage.args
            if self._doubted.get(partition) == offset:
                raise FetchDamaged(partition, offset) from None
            self._fetch_again(partition, offset)
            return self._fetched(timeout_ms)

    def _fetch_again(self, partition: int, offset: int) -> None:
        """Fetch a batch once more: it may have been damaged on its way here, or the broker may have another replica."""
        _logger.warning(
            "topic %s, partition %d: the batch at offset %d does not match its checksum: it is fetched again",
            self._topic, partition, offset,
        )  # fmt: skip
        self._doubted[partition] = offset
        self.seek(partition, offset)

    def offsets(self, partitions: Sequence[int], timeout_ms: int = REQUEST_TIMEOUT_MS, *, first: bool) -> list[int]:
        """The first offsets that there are, or those of the next records. Raises `KafkaError`."""
        topic_partitions = [TopicPartition(self._topic, partition) for partition in partitions]
        ask = self._consumer.beginning_offsets if first else self._consumer.end_offsets
        found = ask(topic_partitions, timeout_ms=timeout_ms)
        return [found[each] for each in topic_partitions]

    def close(self) -> None:
        """Release the consumer and its thread."""
        self._consumer.close(autocommit=False, timeout_ms=1_000)

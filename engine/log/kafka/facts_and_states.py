"""The topics beside a Kafka log: `<topic>.facts` and the compacted `<topic>.state`.

The facts are a log of their own, and kept like one. Of the states only the newest of each key counts, so an owner that
has been replaced and does not know it yet could leave an old one on top. It cannot do so unseen: an owner knows where
its own last state stands, and reads whatever comes between that and its next.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice

from kafka import KafkaConsumer, TopicPartition

from lastseen.engine.errors import LogCorrupt, LogMismatch, LogUnavailable
from lastseen.engine.log.kafka.batching import Append, cut, sizes_of
from lastseen.engine.log.kafka.client import log_error, open_admin, open_consumer
from lastseen.engine.log.kafka.compacted_records import compacted_records
from lastseen.engine.log.kafka.fetch import OffsetGone
from lastseen.engine.log.kafka.library_internals import FetchedBatch, give_whole_batches, refuse_reading
from lastseen.engine.log.kafka.log import KafkaLog
from lastseen.engine.log.kafka.producer import Delivered, connect
from lastseen.engine.log.kafka.records import EVENT_HEADERS, encoded_headers
from lastseen.engine.log.kafka.topic import describe
from lastseen.engine.log.kafka.url import FACTS, STATE, KafkaUrl
from lastseen.engine.log.kafka.writer import Writer
from lastseen.engine.log.port import Message, Record
from lastseen.engine.log.read_size import values_bytes
from lastseen.engine.log.shared_log import OutboundRecord

MAX_WAITING_BYTES = 16 * 1024 * 1024
READ_TIMEOUT_S = 10.0
PAGE = 1_000
BATCHES = 16
"""States are given by so many, and their batches fetched by so many."""
NEWEST_RECORDS = 10_000
NEWEST_BYTES = 16 * 1024 * 1024
"""How far back the topic of facts is searched for one of ours. Beyond that, facts are published again."""
FOREIGN_FACTS = 1_000
"""How many records of others are looked at, at a time: to report strangers, not to find the place."""
NEWEST_GROWTH = 10
"""A page is so many times as long as the newer one: mostly the very newest record is ours."""
_HEADERS_SIZE = len(encoded_headers(EVENT_HEADERS))
_logger = logging.getLogger("lastseen")


class KafkaFactPublisher:
    """Facts and states in topics of their own (`shared_log.FactPublisher`). Publishing is for one thread at a time."""

    def __init__(self, url: KafkaUrl, partitions: int) -> None:
        """Open the topics beside the log at `url`.

        Raises `LogUnavailable` where one is missing, `LogMismatch` where one is unfit or has not as many partitions.
        """
        facts = dataclasses.replace(url, topic=url.topic + FACTS, partitions=partitions)
        states = dataclasses.replace(url, topic=url.topic + STATE, partitions=partitions)
        max_state_batch_bytes = _checked(states)
        self._facts_topic = facts.topic
        self._facts = KafkaLog(facts, max_waiting_bytes=MAX_WAITING_BYTES)
        self._states = _States(states, partitions, max_state_batch_bytes)
        self._facts_seen: list[int | None] = [None] * partitions
        """Up to where each partition of the facts is known; `None` where it was never asked for."""
        self._foreign_facts: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]
        """Ranges of offsets that others have appended, not looked at yet."""

    def publish_facts(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        """Append facts (`shared_log.FactPublisher`). After a failure, those there have none missing before them."""
        messages = [Message(partition, key, value) for key, value in outbound if value is not None]
        if not messages:
            return
        sizes = sizes_of(messages, _HEADERS_SIZE)
        # A batch at a time: of several in flight the first may fail and the next be written, and the newest fact in the
        # topic must say that all before it are there.
        for _, batch in cut(Append(messages, sum(sizes), None), sizes, self._facts.max_batch_bytes):
            positions = self._facts.append(batch.messages)
            self._note_own(partition, positions[0].offset, positions[-1].offset + 1)

    def _note_own(self, partition: int, first: int, end: int) -> None:
        """What stands between our last fact and this one, others have appended."""
        seen = self._facts_seen[partition]
        if seen is not None and first > seen:
            self._foreign_facts[partition].append((seen, first))
        self._facts_seen[partition] = end

    def facts_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        """What others have appended to the facts (`shared_log.FactPublisher`)."""
        end = self._facts.lookup.end_offsets()[partition]
        seen = self._facts_seen[partition]
        if seen is None:
            self._facts_seen[partition] = seen = 0
        if end > seen:
            self._note_own(partition, end, end)
        ranges, self._foreign_facts[partition] = self._foreign_facts[partition], []
        left = FOREIGN_FACTS
        for first, after in reversed(ranges):
            start = max(first, after - left)
            if start < after:
                yield list(self._readable(partition, start, after, NEWEST_BYTES))
            left -= after - start

    def newest_facts(self, partition: int) -> Iterator[Sequence[Record]]:
        """What stands last in a partition (`shared_log.FactPublisher`)."""
        lookup = self._facts.lookup
        end, size, left, left_bytes = lookup.end_offsets()[partition], 1, NEWEST_RECORDS, NEWEST_BYTES
        while end > 0 and left > 0 and left_bytes > 0:
            start = max(end - min(size, left), 0)
            records = list(self._readable(partition, start, end, left_bytes))
            yield records
            left -= end - start
            left_bytes -= values_bytes(records)
            end, size = start, size * NEWEST_GROWTH

    def _readable(self, partition: int, start: int, end: int, most_bytes: int) -> Iterator[Record]:
        """The records from `start` to before `end`, up to the first that cannot be read."""
        while start < end and most_bytes > 0:
            try:
                records = self._facts.lookup.page(partition, start, end - start)
            except OffsetGone:  # by retention
                first = self._facts.lookup.first_offset(partition)
                if first <= start:
                    return
                start = first
                continue
            except (LogCorrupt, LogMismatch) as error:
                # Here nothing is lost by that: what is not seen as published is published again.
                _logger.warning("topic %s: %s", self._facts_topic, error)
                return
            yield from records
            most_bytes -= values_bytes(records)
            start = records[-1].offset + 1

    def had_facts(self, partition: int) -> bool:
        """Whether anything was ever written to a partition (`shared_log.FactPublisher`)."""
        return self._facts.lookup.end_offsets()[partition] > 0

    def publish_states(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        """Replace states (`shared_log.FactPublisher`)."""
        self._states.publish(partition, outbound)

    def mark_foreign(self, partition: int) -> None:
        """Treat all states in the topic as written by others (`shared_log.FactPublisher`)."""
        self._states.mark_foreign(partition)

    def written_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        """What others have written to the states (`shared_log.FactPublisher`)."""
        return self._states.written_by_others(partition)

    def close(self) -> None:
        """Release the topics (`shared_log.FactPublisher`)."""
        self._facts.close()
        self._states.close()


class _States:
    """The compacted topic. It is no log: old records go, so its offsets have gaps."""

    @staticmethod
    def _records_of(partition: int, fetched: FetchedBatch) -> Iterator[Record]:
        return compacted_records(partition, fetched.batch)

    def __init__(self, url: KafkaUrl, partitions: int, max_batch_bytes: int) -> None:
        self._url = url
        self._partitions = partitions
        self._mutex = threading.Lock()
        self._seen: list[int | None] = [None] * partitions
        """Up to where each partition is known; `None` where it was never asked for."""
        self._foreign: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]
        """Ranges of offsets that others have written, not looked at yet."""
        self._consumer: KafkaConsumer | None = None
        self._writer = Writer(
            url, partitions, lambda: connect(url), self._note, MAX_WAITING_BYTES, max_batch_bytes
        )  # fmt: skip

    def publish(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        if outbound:
            # A tombstone is a message without a value, which the log itself never writes.
            messages = [Message(partition, key, value) for key, value in outbound]  # type: ignore[arg-type]
            self._writer.append(messages, sizes_of(messages, _HEADERS_SIZE))

    def mark_foreign(self, partition: int) -> None:
        first, end = self._bounds(partition)
        with self._mutex:
            self._seen[partition] = end
            self._foreign[partition] = [(first, end)] if end > first else []

    def _note(self, partition: int, _: Sequence[Message], written: Delivered) -> None:
        with self._mutex:
            seen, first = self._seen[partition], written.offsets[0]
            if seen is not None and first > seen:
                self._foreign[partition].append((seen, first))
            self._seen[partition] = written.offsets[-1] + 1

    def written_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        if self._seen[partition] is None:
            self.mark_foreign(partition)
        _, end = self._bounds(partition)
        with self._mutex:
            seen = self._seen[partition]
            assert seen is not None, "it was requested above"
            if end > seen:
                self._foreign[partition].append((seen, end))
                self._seen[partition] = end
        while self._foreign[partition]:
            first, after = self._foreign[partition][0]
            yield from self._read_range(partition, first, after)
            with self._mutex:
                # Only after it has been read: a reader that fails halfway reads it again.
                self._foreign[partition].remove((first, after))

    def _bounds(self, partition: int) -> tuple[int, int]:
        topic_partition = TopicPartition(self._url.topic, partition)
        try:
            reader = self._reader()
            asked = [topic_partition]
            return reader.beginning_offsets(asked)[topic_partition], reader.end_offsets(asked)[topic_partition]
        except Exception as error:  # a client that has lost its way raises whatever it stumbles over
            self._drop_reader()
            raise log_error(self._url, "cannot be read", error) from None

    def _reader(self) -> KafkaConsumer:
        if self._consumer is None:
            consumer = open_consumer(self._url)
            if not give_whole_batches(consumer):
                refuse_reading()
            self._consumer = consumer
        return self._consumer

    def _drop_reader(self) -> None:
        """The next request goes to another client: this one may know the brokers from long ago, and never refresh
        them."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=1_000)
            except Exception as error:  # whatever it is, the next one must be made
                _logger.debug("log %s: a consumer did not close: %r", self._url, error)

    def _read_range(self, partition: int, first: int, after: int) -> Iterator[Sequence[Record]]:
        """What is left of a range of offsets; what compaction has taken was replaced by something newer."""
        topic_partition = TopicPartition(self._url.topic, partition)
        give_up = time.monotonic() + READ_TIMEOUT_S
        try:
            consumer = self._reader()
            consumer.assign([topic_partition])
            consumer.seek(topic_partition, first)
            while consumer.position(topic_partition) < after:
                for fetched in consumer.poll(timeout_ms=100, max_records=BATCHES).get(topic_partition, ()):
                    give_up = time.monotonic() + READ_TIMEOUT_S
                    records = (each for each in self._records_of(partition, fetched) if first <= each.offset < after)
                    while page := list(islice(records, PAGE)):
                        yield page
                if time.monotonic() > give_up:
                    raise LogUnavailable(f"log {self._url}, partition {partition}: it could not be read in time")
        except Exception as error:
            # Nothing is passed over: that an offset is out of range, a broker that is behind the others says too.
            self._drop_reader()
            raise log_error(self._url, "cannot be read", error) from None

    def close(self) -> None:
        self._writer.close()
        self._drop_reader()


def _checked(url: KafkaUrl) -> int:
    """The largest batch that the topic of states takes. Raises `LogError` where it cannot be that topic."""
    admin = open_admin(url)
    try:
        topic = describe(admin, url, url.topic)
    finally:
        admin.close()
    if topic is None:
        raise LogUnavailable(
            f"log {url}: the topic does not exist; make it with: lastseen topics create, or open the engine with"
            " facts=False"
        )
    if topic.settings.get("cleanup.policy") != "compact" or topic.partitions != url.partitions:
        raise LogMismatch(
            f"topic {url.topic} has cleanup.policy={topic.settings.get('cleanup.policy')} and {topic.partitions}"
            f" partitions; the topic of states needs compact and {url.partitions}: delete it, and make it again"
            " with lastseen topics create"
        )
    return topic.max_batch_bytes

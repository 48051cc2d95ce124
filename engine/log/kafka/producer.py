"""Handing batches to kafka-python's producer: whole, past its `send()`, or, where that cannot be, record by record.

`send()` costs 30 to 60 µs a record; a batch that is encoded here and put into the producer's queue costs 2. Sequence
numbers, retries and waiting for the broker stay the producer's.

A producer is used until something goes wrong with it, and then discarded, whatever kafka-python means to do about it:
its own ways back (a new epoch, a reset producer id) can leave it without an id permanently.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from kafka import KafkaProducer, TopicPartition, errors

from lastseen.engine.log.kafka.client import REQUEST_TIMEOUT_MS, log_error, open_producer
from lastseen.engine.log.kafka.library_internals import (
    ProducerQueue,
    QueuedBatch,
    abandon_producer,
    end_producer,
    record_batch,
    takes_whole_batches,
)
from lastseen.engine.log.kafka.records import EVENT_HEADERS, Headers, encode, encoded_headers
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.port import Message

CLOSE_TIMEOUT_S = 10.0
_CODECS = {"none": 0, "lz4": 3}
_CLEARLY_REFUSED = (
    errors.NotEnoughReplicasError, errors.MessageSizeTooLargeError, errors.RecordListTooLargeError,
    errors.InvalidTopicError, errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError,
    errors.InvalidRecordError, errors.InvalidTimestampError, errors.UnsupportedForMessageFormatError,
    errors.OutOfOrderSequenceNumberError, errors.PolicyViolationError,
)  # fmt: skip
"""After these the broker has surely not written the batch. After others, such as "not the leader", it may have."""
_logger = logging.getLogger("lastseen")


class Delivered(NamedTuple):
    """What the broker has written."""

    offsets: Sequence[int]
    timestamp_ms: int | None
    """The broker's, or `None` where it is not known for all of them."""


class Failed(NamedTuple):
    """What was not delivered."""

    error: Exception
    may_be_written: bool
    is_unusable: bool
    """Whether the producer is to be thrown away."""


Outcome = Delivered | Failed
OnOutcome = Callable[[Outcome], None]
"""Called once, on the producer's own thread."""


class Producer(Protocol):
    """Takes batches, and reports the outcome of each."""

    def send_batch(self, partition: int, messages: Sequence[Message], created_s: float, on_outcome: OnOutcome) -> None:
        """Send a batch; its time to be delivered runs from `created_s`. Raises `KafkaError` if it is closed."""
        ...

    def close(self) -> None:
        """Release everything at once; requests in flight fail."""
        ...


def connect(url: KafkaUrl, headers: Headers = EVENT_HEADERS) -> Producer:
    """A producer that has its id and knows the topic. Raises `LogError`."""
    timeout_ms = min(REQUEST_TIMEOUT_MS, url.delivery_timeout_ms)
    kafka_producer = open_producer(
        url,
        delivery_timeout_ms=url.delivery_timeout_ms,
        request_timeout_ms=timeout_ms,
        max_block_ms=timeout_ms,
        compression_type=None if url.compression == "none" else url.compression,
    )
    try:
        kafka_producer.partitions_for(url.topic)
    except errors.KafkaError as error:
        _end(kafka_producer)
        raise log_error(url, "cannot be written", error) from None
    if not takes_whole_batches(kafka_producer):
        _warn()
        return SingleRecords(kafka_producer, url, headers)
    try:
        return WholeBatches(kafka_producer, url, headers, timeout_ms / 1000)
    except errors.KafkaError as error:
        _end(kafka_producer)
        raise log_error(url, "cannot be written", error) from None


class WholeBatches:
    """Puts whole batches into the queue of kafka-python's producer."""

    def __init__(self, producer: KafkaProducer, url: KafkaUrl, headers: Headers, timeout_s: float) -> None:
        self._producer = producer
        self._topic = url.topic
        self._codec = _CODECS[url.compression]
        self._headers = encoded_headers(headers)
        self._queue = ProducerQueue(producer, _CLEARLY_REFUSED)
        self._partitions: dict[int, TopicPartition] = {}
        self._queue.await_id(timeout_s)
        _alive.add(producer)

    def send_batch(self, partition: int, messages: Sequence[Message], created_s: float, on_outcome: OnOutcome) -> None:
        """Send a batch (`Producer`)."""
        topic_partition = self._partitions.get(partition)
        if topic_partition is None:
            topic_partition = self._partitions[partition] = TopicPartition(self._topic, partition)
        body = encode(messages, self._headers)
        encoded = record_batch(body, len(messages), self._codec, time.time_ns() // 1_000_000)
        batch = QueuedBatch(topic_partition, encoded, created_s)
        count = len(messages)

        def answer(result: tuple[int, int, Callable[[int], Exception] | None]) -> None:
            offset, timestamp_ms, error_of = result
            if error_of is not None:
                error = error_of(0)
                # That nothing could be sent in time says nothing against the producer.
                is_late = batch.drained is None and isinstance(error, errors.KafkaTimeoutError)
                on_outcome(Failed(error, batch.is_out or batch.is_doubtful, is_unusable=not is_late))
            elif offset < 0:
                on_outcome(
                    Failed(
                        errors.KafkaError("the broker did not return an offset"), may_be_written=True, is_unusable=True
                    )
                )
            else:
                # After a retry the time is the one that the broker remembers of the first attempt; it is read back.
                is_sure = timestamp_ms is not None and timestamp_ms > 0 and batch.attempts == 0
                on_outcome(Delivered(range(offset, offset + count), timestamp_ms if is_sure else None))

        batch.produce_future.add_callback(answer)
        self._queue.put(batch)

    def close(self) -> None:
        """Release everything at once (`Producer`)."""
        _end(self._producer)


class SingleRecords:
    """Sends record by record, through `send()` alone."""

    def __init__(self, producer: KafkaProducer, url: KafkaUrl, headers: Headers) -> None:
        self._producer = producer
        self._topic = url.topic
        self._headers = list(headers)
        _alive.add(producer)

    def send_batch(self, partition: int, messages: Sequence[Message], _: float, on_outcome: OnOutcome) -> None:
        """Send a batch (`Producer`); its time runs from now."""
        offsets, times, failures = [0] * len(messages), [0] * len(messages), list[Exception]()
        left = len(messages)

        def count_down() -> None:
            nonlocal left
            left -= 1
            if left:
                return
            if failures:
                on_outcome(Failed(failures[0], may_be_written=True, is_unusable=True))
            else:
                on_outcome(Delivered(offsets, times[0] if len(set(times)) == 1 else None))

        def delivered(number: int, written: Any) -> None:
            offsets[number], times[number] = written.offset, written.timestamp
            count_down()

        def failed(error: Exception) -> None:
            failures.append(error)
            count_down()

        for number, (_, key, value) in enumerate(messages):
            try:
                future = self._producer.send(self._topic, value, key.encode(), self._headers, partition)
            except errors.KafkaError as error:
                if number == 0:
                    raise
                failed(error)
                continue
            future.add_callback(delivered, number)
            future.add_errback(failed)

    def close(self) -> None:
        """Release everything at once (`Producer`)."""
        _end(self._producer)


_has_warned = False


def _warn() -> None:
    """Say once that appending is slow."""
    global _has_warned
    if not _has_warned:
        _logger.warning("this version of kafka-python does not support whole batches: records are sent one by one")
        _has_warned = True


def _end(producer: KafkaProducer) -> None:
    """End a producer and its thread."""
    _alive.discard(producer)
    end_producer(producer, CLOSE_TIMEOUT_S)


_alive: weakref.WeakSet[KafkaProducer] = weakref.WeakSet()


def _abandon_parents_producers() -> None:
    """In a forked child: a producer that is collected there would write to its parent's sockets, and wait for locks."""
    for producer in list(_alive):
        abandon_producer(producer)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_parents_producers)

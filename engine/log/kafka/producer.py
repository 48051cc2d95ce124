"""Handing batches to kafka-python's producer: whole, past its `send()`, or, failing that, record by record.

All that this project knows of the producer's insides stands here. `send()` costs 30 to 60 µs a record; a batch that is
encoded by us and put into the producer's queue costs 2. Sequence numbers, retries and waiting for the broker stay the
producer's. Before the first batch its insides are held against what is expected (`knows_whole_batches`).

A producer is used until something goes wrong with it, and then thrown away, whatever kafka-python means to do about it:
its own ways back (a new epoch, a reset producer id) can leave it without an id for ever.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from kafka import KafkaProducer, TopicPartition, errors
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder

from lastseen.engine.log.kafka.client import MAX_BATCH_BYTES, REQUEST_TIMEOUT_MS, log_error, open_producer
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
    is_spoilt: bool
    """Whether the producer is to be thrown away."""


Outcome = Delivered | Failed
Tell = Callable[[Outcome], None]
"""Called once, on the producer's own thread."""


class Producer(Protocol):
    """Takes batches, and tells what came of each."""

    def hand_over(self, partition: int, messages: Sequence[Message], created_s: float, tell: Tell) -> None:
        """Send a batch; its time to be delivered runs from `created_s`. Raises `KafkaError` if it is closed."""
        ...

    def close(self) -> None:
        """Let go of everything at once; what is under way fails."""
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
        _stop(kafka_producer)
        raise log_error(url, "cannot be written", error) from None
    if not knows_whole_batches(kafka_producer):
        _warn()
        return SingleRecords(kafka_producer, url, headers)
    try:
        return WholeBatches(kafka_producer, url, headers, timeout_ms / 1000)
    except errors.KafkaError as error:
        _stop(kafka_producer)
        raise log_error(url, "cannot be written", error) from None


def knows_whole_batches(producer: KafkaProducer) -> bool:
    """Whether kafka-python is inside as it was when this was written; a batch of ours must equal one of its own."""
    try:
        accumulator, sender = producer._accumulator, producer._sender
        parts = (
            accumulator._tp_lock(TopicPartition("probe", 0)), accumulator._batches, accumulator._incomplete.add,
            accumulator._closed, accumulator._appends_in_progress.get(), sender._can_split, sender._can_retry,
            sender.wakeup, sender.force_close,
            producer._transaction_manager.has_producer_id, producer._metadata.partitions_for_topic,
        )  # fmt: skip
        del accumulator._tp_locks[TopicPartition("probe", 0)]
        messages = [Message(0, "a", b"x" * 200), Message(0, "ключ", b""), Message(0, "", b"y" * 70_000)]
        theirs = MemoryRecordsBuilder(2, 0, MAX_BATCH_BYTES)
        for _, key, value in messages:
            theirs.append(1_700_000_000_000, key.encode(), value, list(EVENT_HEADERS))
        ours = _builder(encode(messages, encoded_headers(EVENT_HEADERS)), len(messages), 0, 1_700_000_000_000)
        for each in (theirs, ours):
            each.set_producer_state(7, 1, 5, False)
            each.close()
        return all(part is not None for part in parts) and (theirs.buffer(), theirs.next_offset()) == (
            ours.buffer(), ours.next_offset(),
        )  # fmt: skip
    except Exception as error:  # whatever has changed, the other way is open
        _logger.debug("kafka-python is not as expected: %r", error)
        return False


def _builder(body: bytes, count: int, codec: int, now_ms: int) -> Any:
    """kafka-python's builder, as if it had made the records itself."""
    builder = MemoryRecordsBuilder(2, codec, MAX_BATCH_BYTES)
    inner = builder._builder
    inner._buffer += body
    inner._num_records, inner._last_offset = count, count - 1
    inner._first_timestamp = inner._max_timestamp = now_ms
    builder._next_offset = count
    return builder


class _Batch(ProducerBatch):  # type: ignore[misc]
    """A batch that knows whether the broker may have it."""

    def __init__(self, partition: TopicPartition, builder: Any, created_s: float) -> None:
        self.is_out = False
        """Whether it has been sent, and not been answered."""
        self.is_doubtful = False
        """Whether an answer to it was lost."""
        super().__init__(partition, builder, now=created_s)

    @property
    def drained(self) -> float | None:
        """When the producer took it out of its queue last."""
        return self._drained

    @drained.setter
    def drained(self, now_s: float | None) -> None:
        self._drained = now_s
        self.is_out = now_s is not None


class WholeBatches:
    """Puts whole batches into the queue of kafka-python's producer."""

    def __init__(self, producer: KafkaProducer, url: KafkaUrl, headers: Headers, timeout_s: float) -> None:
        self._producer = producer
        self._topic = url.topic
        self._codec = _CODECS[url.compression]
        self._headers = encoded_headers(headers)
        self._accumulator, self._sender = producer._accumulator, producer._sender
        self._partitions: dict[int, TopicPartition] = {}
        # A batch that is too large for the broker was checked against an older limit; split, it would answer to nobody.
        self._sender._can_split = lambda batch, error: False
        can_retry = self._sender._can_retry

        def note_and_retry(batch: _Batch, error: type[Exception]) -> bool:
            if batch.is_out:
                batch.is_out = False
                batch.is_doubtful |= not issubclass(error, _CLEARLY_REFUSED)
            return bool(can_retry(batch, error))

        self._sender._can_retry = note_and_retry
        self._await_id(timeout_s)
        _alive.add(producer)

    def _await_id(self, timeout_s: float) -> None:
        """Without its id a producer neither sends batches nor lets them expire."""
        give_up = time.monotonic() + timeout_s
        while not self._producer._transaction_manager.has_producer_id():
            error = self._producer._transaction_manager.last_error
            if error is not None:
                raise error
            if time.monotonic() > give_up:
                raise errors.KafkaTimeoutError("the broker gave the producer no id in time")
            time.sleep(0.002)

    def hand_over(self, partition: int, messages: Sequence[Message], created_s: float, tell: Tell) -> None:
        """Send a batch (`Producer`)."""
        topic_partition = self._partitions.get(partition)
        if topic_partition is None:
            topic_partition = self._partitions[partition] = TopicPartition(self._topic, partition)
        body = encode(messages, self._headers)
        builder = _builder(body, len(messages), self._codec, time.time_ns() // 1_000_000)
        batch = _Batch(topic_partition, builder, created_s)
        count = len(messages)

        def answer(result: tuple[int, int, Callable[[int], Exception] | None]) -> None:
            offset, timestamp_ms, error_of = result
            if error_of is not None:
                error = error_of(0)
                # That nothing could be sent in time says nothing against the producer.
                is_late = batch.drained is None and isinstance(error, errors.KafkaTimeoutError)
                tell(Failed(error, batch.is_out or batch.is_doubtful, is_spoilt=not is_late))
            elif offset < 0:
                tell(Failed(errors.KafkaError("the broker did not say where"), may_be_written=True, is_spoilt=True))
            else:
                # After a retry the time is the one that the broker remembers of the first attempt; it is read back.
                is_sure = timestamp_ms is not None and timestamp_ms > 0 and batch.attempts == 0
                tell(Delivered(range(offset, offset + count), timestamp_ms if is_sure else None))

        batch.produce_future.add_callback(answer)
        accumulator = self._accumulator
        # Whoever closes the producer meanwhile waits for this count, and so fails this batch too.
        accumulator._appends_in_progress.increment()
        try:
            with accumulator._tp_lock(topic_partition):
                if accumulator._closed:
                    raise errors.IllegalStateError("the producer is closed")
                accumulator._incomplete.add(batch)
                accumulator._batches[topic_partition].append(batch)
        finally:
            accumulator._appends_in_progress.decrement()
        self._sender.wakeup()

    def close(self) -> None:
        """Let go of everything at once (`Producer`)."""
        _stop(self._producer)


class SingleRecords:
    """Sends record by record, through `send()` alone."""

    def __init__(self, producer: KafkaProducer, url: KafkaUrl, headers: Headers) -> None:
        self._producer = producer
        self._topic = url.topic
        self._headers = list(headers)
        _alive.add(producer)

    def hand_over(self, partition: int, messages: Sequence[Message], _: float, tell: Tell) -> None:
        """Send a batch (`Producer`); its time runs from now."""
        offsets, times, failures = [0] * len(messages), [0] * len(messages), list[Exception]()
        left = len(messages)

        def count_down() -> None:
            nonlocal left
            left -= 1
            if left:
                return
            if failures:
                tell(Failed(failures[0], may_be_written=True, is_spoilt=True))
            else:
                tell(Delivered(offsets, times[0] if len(set(times)) == 1 else None))

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
        """Let go of everything at once (`Producer`)."""
        _stop(self._producer)


_has_warned = False


def _warn() -> None:
    """Say once that appending is slow."""
    global _has_warned
    if not _has_warned:
        _logger.warning("this kafka-python is not the one that whole batches are made for: records are sent singly")
        _has_warned = True


def _stop(producer: KafkaProducer) -> None:
    """End a producer and its thread; its own `close` waits for what is under way, and may leave the thread behind."""
    _alive.discard(producer)
    producer._unregister_cleanup()
    producer._sender.force_close()
    if threading.current_thread() is not producer._sender:
        producer._sender.join(CLOSE_TIMEOUT_S)
        if producer._sender.is_alive():
            _logger.warning("a Kafka producer's thread did not end in %s s", CLOSE_TIMEOUT_S)
    producer._closed = True


_alive: weakref.WeakSet[KafkaProducer] = weakref.WeakSet()


def _forget_parents_producers() -> None:
    """In a forked child: a producer that is collected there would write to its parent's sockets, and wait for locks."""
    for producer in list(_alive):
        producer._closed = True
        producer._unregister_cleanup()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_producers)

"""kafka-python's private parts: all that this project uses of them, and the checks that they are there.

Only this file names an attribute of kafka-python that begins with an underscore. It changes no class and no module of
the library: it derives classes of its own, and sets attributes of clients that lastseen has opened. Clients that the
host application opens in the same process behave as kafka-python made them.

Each group of parts is checked before its first use. What happens where a part is missing:

- network (TLS handshakes with a time limit, no leaked sockets, the broker's reason for hanging up):
  `UnsupportedLibrary` when a client is opened;
- group (finishing a rebalance): `UnsupportedLibrary` when the group is joined;
- a producer's queue (whole batches out): `send()`, record by record, with a warning;
- a consumer's fetcher (whole batches in): `UnsupportedLibrary` when the log is opened;
- closing a producer at once: `KafkaProducer.close`, which waits for requests in flight;
- a client's list of topics, which saves the first metadata request 0.1 s: kafka-python's own pace.
"""

from __future__ import annotations

import inspect
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.base import BaseCoordinator
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder

from lastseen.engine.errors import UnsupportedLibrary
from lastseen.engine.log.kafka import SUPPORTED_LIBRARY
from lastseen.engine.log.kafka.records import EVENT_HEADERS, MAX_BATCH_BYTES, encode, encoded_headers
from lastseen.engine.log.kafka.secrets import closing_quietly
from lastseen.engine.log.port import Message

HANDSHAKE_TIMEOUT_S = 10.0
_logger = logging.getLogger("lastseen")


def _refuse(parts: list[str]) -> None:
    if parts:
        raise UnsupportedLibrary(
            f"kafka-python {kafka.__version__} differs from what the Kafka log relies on in {', '.join(parts)}: install"
            f" a supported version with: pip install '{SUPPORTED_LIBRARY}'"
        )


def _names(kind: type, function: str) -> tuple[str, ...]:
    """The attributes that a function of a class mentions; none where there is no such function."""
    code = getattr(inspect.unwrap(vars(kind)[function]), "__code__", None) if function in vars(kind) else None
    return () if code is None else code.co_names


# ── the network ──


class _LastMessageFirst:
    """Gives what the other side sent before it closed, such as its reason, and reports the end at the next read."""

    _sock: Any
    _net: Any

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        received, failure = super()._sock_recv()  # type: ignore[misc]
        return received, None if received else failure

    @property
    def socket(self) -> socket.socket:
        """The socket under the transport."""
        return self._sock  # type: ignore[no-any-return]


class TcpTransport(_LastMessageFirst, KafkaTCPTransport):  # type: ignore[misc]
    """A connected socket."""


class TlsTransport(_LastMessageFirst, KafkaSSLTransport):  # type: ignore[misc]
    """A connected socket under TLS, whose handshake has a time limit; kafka-python's own has none."""

    async def handshake(self) -> None:
        """Shake hands within `HANDSHAKE_TIMEOUT_S`. Raises `KafkaTimeoutError`, `ssl.SSLError`, `OSError`."""
        give_up_s = time.monotonic() + HANDSHAKE_TIMEOUT_S
        while True:
            try:
                self._sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._net.wait_read(self._sock, give_up_s)
            except ssl.SSLWantWriteError:
                await self._net.wait_write(self._sock, give_up_s)


class ConnectionPool(KafkaConnectionManager):  # type: ignore[misc]
    """kafka-python's connections, over transports that `build_transport` makes."""

    async def build_transport(self, node: Any, timeout_at_s: float | None) -> TcpTransport | TlsTransport:
        """A connected transport to `node`, by `timeout_at_s` of the monotonic clock. Raises `KafkaError`."""
        raise NotImplementedError

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> TcpTransport | TlsTransport:
        return await self.build_transport(node, timeout_at)


def check_network() -> None:
    """Raise `UnsupportedLibrary` where the network's private parts are not as expected."""
    _refuse(list(_network_differences()))


def _network_differences() -> Iterator[str]:
    build = getattr(KafkaConnectionManager, "_build_transport", None)
    if (
        not inspect.iscoroutinefunction(build)
        or list(inspect.signature(build).parameters) != ["self", "node", "timeout_at"]
        or "_build_transport" not in _names(KafkaConnectionManager, "_connect")
    ):
        yield "KafkaConnectionManager._build_transport"
    if "_sock_recv" not in _names(KafkaTCPTransport, "_read_from_sock"):
        yield "KafkaTCPTransport._read_from_sock"
    if "_sock_recv" not in vars(KafkaSSLTransport) or not issubclass(KafkaSSLTransport, KafkaTCPTransport):
        yield "KafkaSSLTransport._sock_recv"
    yield from _transport_differences()


def _transport_differences() -> Iterator[str]:
    """Reads a message and the end behind it, as a transport of ours would from a broker that closes the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs, closing_quietly():
        try:
            net = object()
            transport = TcpTransport(net, ours)
            ours.setblocking(False)
            theirs.sendall(b"why")
            theirs.close()
            if transport._sock is not ours or transport._net is not net:
                yield "KafkaTCPTransport._sock and _net"
            first, second = transport._sock_recv(), transport._sock_recv()
            if first != (b"why", None) or second[0] != b"" or not isinstance(second[1], errors.KafkaConnectionError):
                yield "KafkaTCPTransport._sock_recv"
        except (AttributeError, TypeError, ValueError) as error:
            yield f"KafkaTCPTransport ({error})"


def follow_topic(cluster: Any, topic: str) -> None:
    """Have the first metadata request ask for a topic; where that cannot be arranged, the second does."""
    topics = getattr(cluster, "_topics", None)
    if isinstance(topics, set):
        topics.add(topic)


# ── the consumer group ──


def check_group() -> None:
    """Raise `UnsupportedLibrary` where the private parts of a group's member are not as expected."""
    coordinator = ("_coordinator", KafkaConsumer, "__init__")
    rejoining = ("rejoining", BaseCoordinator, "__init__")
    differences = [f"{kind.__name__}.{name}" for name, kind, where in (coordinator, rejoining) if
                   name not in _names(kind, where)]  # fmt: skip
    if not callable(getattr(BaseCoordinator, "request_rejoin", None)):
        differences.append("BaseCoordinator.request_rejoin")
    _refuse(differences)


def finish_rebalance(consumer: KafkaConsumer) -> None:
    """Have a rebalance that has begun taken to its end.

    kafka-python 3.0 joins again where the topic's partitions became known after it had divided them. If the poll's time
    runs out meanwhile, the leader's own assignment makes it forget, at the next poll, that it was joining: the answer
    is never taken, no heartbeat is sent any more, and it goes on with partitions that are another's by then.
    """
    coordinator = consumer._coordinator
    if coordinator.rejoining:
        coordinator.request_rejoin()


def rejoin(consumer: KafkaConsumer) -> None:
    """Have a member join again at its next poll: what it says of itself has changed."""
    consumer._coordinator.request_rejoin()


# ── whole batches out ──


def record_batch(body: bytes, count: int, codec: int, now_ms: int) -> MemoryRecordsBuilder:
    """kafka-python's builder of a batch, as if it had encoded the `count` records in `body` itself."""
    builder = MemoryRecordsBuilder(2, codec, MAX_BATCH_BYTES)
    inner = builder._builder
    inner._buffer += body
    inner._num_records, inner._last_offset = count, count - 1
    inner._first_timestamp = inner._max_timestamp = now_ms
    builder._next_offset = count
    return builder


class QueuedBatch(ProducerBatch):  # type: ignore[misc]
    """A batch that knows whether the broker may have it."""

    def __init__(self, partition: TopicPartition, records: MemoryRecordsBuilder, created_s: float) -> None:
        self.is_out = False
        """Whether it has been sent, and not been answered."""
        self.is_doubtful = False
        """Whether an answer to it was lost."""
        super().__init__(partition, records, now=created_s)

    @property
    def drained(self) -> float | None:
        """When the producer took it out of its queue last."""
        return self._drained_s

    @drained.setter
    def drained(self, now_s: float | None) -> None:
        self._drained_s = now_s
        self.is_out = now_s is not None


class ProducerQueue:
    """The queue of one producer of ours, into which whole batches are put."""

    def __init__(self, producer: KafkaProducer, clearly_refused: tuple[type[Exception], ...]) -> None:
        """After an error of `clearly_refused` the broker has surely not written the batch; after others it may have."""
        self._accumulator, self._sender = producer._accumulator, producer._sender
        self._transactions = producer._transaction_manager
        sender, can_retry = self._sender, self._sender._can_retry

        def note_and_retry(batch: QueuedBatch, error: type[Exception]) -> bool:
            if batch.is_out:
                batch.is_out = False
                batch.is_doubtful |= not issubclass(error, clearly_refused)
            return bool(can_retry(batch, error))

        sender._can_retry = note_and_retry
        # A batch that is too large for the broker was checked against an older limit; if split, it would never answer.
        sender._can_split = lambda batch, error: False

    def await_id(self, timeout_s: float) -> None:
        """Wait for the producer's id, without which it neither sends batches nor lets them expire.

        Raises `KafkaError`.
        """
        give_up_s = time.monotonic() + timeout_s
        while not self._transactions.has_producer_id():
            error = self._transactions.last_error
            if error is not None:
                raise error
            if time.monotonic() > give_up_s:
                raise errors.KafkaTimeoutError("the broker did not assign the producer an id in time")
            time.sleep(0.002)

    def put(self, batch: QueuedBatch) -> None:
        """Put a batch at the queue's end. Raises `IllegalStateError` where the producer is closed."""
        accumulator, partition = self._accumulator, batch.topic_partition
        # A thread that closes the producer meanwhile waits for this count, and so fails this batch too.
        accumulator._appends_in_progress.increment()
        try:
            with accumulator._tp_lock(partition):
                if accumulator._closed:
                    raise errors.IllegalStateError("the producer is closed")
                accumulator._incomplete.add(batch)
                accumulator._batches[partition].append(batch)
        finally:
            accumulator._appends_in_progress.decrement()
        self._sender.wakeup()


def takes_whole_batches(producer: KafkaProducer) -> bool:
    """Whether a producer's queue is as expected, and a batch of ours has the same bytes as one of kafka-python's."""
    try:
        accumulator, sender = producer._accumulator, producer._sender
        transactions = producer._transaction_manager
        functions = (
            accumulator._incomplete.add, accumulator._appends_in_progress.increment,
            accumulator._appends_in_progress.decrement, sender._can_split, sender._can_retry, sender.wakeup,
            transactions.has_producer_id,
        )  # fmt: skip
        probe = TopicPartition("probe", 0)
        with accumulator._tp_lock(probe):
            is_queue = hasattr(accumulator._batches, "__getitem__") and accumulator._closed is False
        del accumulator._tp_locks[probe]
        if not is_queue or not all(map(callable, functions)) or not hasattr(transactions, "last_error"):
            return False
        messages = [Message(0, "a", b"x" * 200), Message(0, "ключ", b""), Message(0, "", b"y" * 70_000)]
        theirs = MemoryRecordsBuilder(2, 0, MAX_BATCH_BYTES)
        for _, key, value in messages:
            theirs.append(1_700_000_000_000, key.encode(), value, list(EVENT_HEADERS))
        body = encode(messages, encoded_headers(EVENT_HEADERS))
        ours = record_batch(body, len(messages), 0, 1_700_000_000_000)
        for each in (theirs, ours):
            each.set_producer_state(7, 1, 5, False)
            each.close()
        batch = QueuedBatch(probe, ours, 1.0)
        expected = (theirs.buffer(), theirs.next_offset(), 1.0, 0, None)
        return (ours.buffer(), batch.record_count, batch.created, batch.attempts, batch.drained) == expected
    except Exception as error:  # whatever has changed, `send()` is there
        _logger.debug("kafka-python's producer is not as expected: %r", error)
        return False


# ── the end of a producer ──


def end_producer(producer: KafkaProducer, timeout_s: float) -> None:
    """End a producer and its thread at once; its own `close` waits for requests in flight, and may leave the thread."""
    sender, unregister = getattr(producer, "_sender", None), getattr(producer, "_unregister_cleanup", None)
    if not isinstance(sender, threading.Thread) or not hasattr(sender, "force_close") or unregister is None:
        producer.close(timeout=timeout_s)
        return
    unregister()
    sender.force_close()
    if threading.current_thread() is not sender:
        sender.join(timeout_s)
        if sender.is_alive():
            _logger.warning("a Kafka producer's thread did not end in %s s", timeout_s)
    producer._closed = True


def abandon_producer(producer: KafkaProducer) -> None:
    """In a forked child: keep the parent's producer from being closed, which would write to the parent's sockets."""
    producer._closed = True
    getattr(producer, "_unregister_cleanup", lambda: None)()


# ── whole batches in ──


class FetchedBatch:
    """A batch as `Fetcher` handles it: it reads a record's offset, to pass over those before the one it wants."""

    __slots__ = ("batch", "offset")

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.offset = batch.next_offset - 1


class UnreadableFetch(errors.CorruptRecordError):  # type: ignore[misc]
    """What a broker sent of one partition, from an offset on, is no batch. `args` are the partition and the offset."""


class PartitionBatches(Fetcher.PartitionRecords):  # type: ignore[misc]
    """Yields the batches of a partition where kafka-python's own class yields records."""

    def _unpack_records(self, at: TopicPartition, records: Any, *_: object) -> Iterator[FetchedBatch]:
        try:
            while (batch := records.next_batch()) is not None:
                self.next_fetch_offset = batch.next_offset
                self.leader_epoch = batch.leader_epoch
                self.records_read += 1
                self.bytes_read += batch.size_in_bytes
                yield FetchedBatch(batch)
        except (errors.CorruptRecordError, struct.error):
            self.drain()  # without it, kafka-python asks for more, without end
            raise UnreadableFetch(at.partition, self.next_fetch_offset) from None
        self.drain()


def give_whole_batches(consumer: KafkaConsumer) -> bool:
    """Have a consumer of ours give batches where it gives records; whether it does now."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if getattr(fetcher, "PartitionRecords", None) is not Fetcher.PartitionRecords:
        return False
    fetcher.PartitionRecords = PartitionBatches
    return True


def refuse_reading() -> None:
    """Raise `UnsupportedLibrary`: record by record, kafka-python inflates without a limit, and stops at bad input."""
    _refuse(["KafkaConsumer (reading whole batches)"])


def batch_body(batch: Any) -> bytes:
    """The records of a fetched batch as they were sent; kafka-python would inflate them without a limit."""
    return bytes(memoryview(batch._buffer)[batch._pos :])


def watch_fetches(consumer: KafkaConsumer, is_missing: Callable[[], None]) -> bool:
    """Whether fetches can be watched: `is_missing` is called for "no such topic", which kafka-python passes over, and
    `UnreadableFetch` is raised for "damaged"."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    parse = getattr(fetcher, "_parse_fetched_data", None)
    if parse is None:
        return False

    def watched(completed: Any) -> Any:
        if completed.partition_data.error_code == errors.UnknownTopicOrPartitionError.errno:
            is_missing()
        if completed.partition_data.error_code == errors.CorruptRecordError.errno:
            raise UnreadableFetch(completed.topic_partition.partition, completed.fetched_offset)
        return parse(completed)

    fetcher._parse_fetched_data = watched
    return True

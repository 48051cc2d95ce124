"""`kafka://host:9092/topic`: a log in a topic of Apache Kafka, for several machines.

Theory of operation. The broker gives each record its offset and its time. Appends of many callers go out as whole
batches (`kafka_writer`); what this process wrote is kept for a while for its own reader, with the time that came with
the acknowledgement, so that it does not fetch what it has just sent. What others write is fetched ahead by a thread
(`kafka_stream`). Questions go by a way of their own (`kafka_lookup`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from lastseen.engine.errors import EngineClosed, InvalidInput, LogError, LogMismatch, LogUnavailable, shown
from lastseen.engine.genesis import check_begun
from lastseen.engine.log.duty_health import DutyHealth
from lastseen.engine.log.kafka.batching import sizes_of
from lastseen.engine.log.kafka.client import open_admin
from lastseen.engine.log.kafka.decompression import probe
from lastseen.engine.log.kafka.fetch import OffsetGone, check_library
from lastseen.engine.log.kafka.group import Membership
from lastseen.engine.log.kafka.lookup import Lookup
from lastseen.engine.log.kafka.producer import Delivered, connect
from lastseen.engine.log.kafka.record_runs import Chunk, RecordRun, records_of
from lastseen.engine.log.kafka.records import BATCH_OVERHEAD_BYTES, EVENT_HEADERS, encoded_headers
from lastseen.engine.log.kafka.stream import Stream, gone_error
from lastseen.engine.log.kafka.topic import check_fit, describe_new, end_offsets_of
from lastseen.engine.log.kafka.url import KafkaUrl
from lastseen.engine.log.kafka.writer import Writer
from lastseen.engine.log.message_checks import checked_size
from lastseen.engine.log.port import Message, Position, Record
from lastseen.engine.log.shared_log import FactPublisher, Held, MemberSettings

MAX_TAIL_BYTES = 8 * 1024 * 1024
MAX_TAIL_BATCHES = 8_192
MAX_AHEAD_BYTES = 32 * 1024 * 1024
READ_TIMEOUT_S = 10.0
"""How long a read waits for a record that the broker has and does not send; no longer than an append may take."""
ASK_EVERY_S = 0.25
"""How often a waiting reader asks the broker, should the stream be busy elsewhere."""
JUST_MADE_S = 1.0
"""How long a topic may be unknown to the broker that is asked, since it may have been made a moment ago."""
IDLE_S = 1.0
"""The stream follows another reader when its own has not read for so long."""
_HEADERS_SIZE = len(encoded_headers(EVENT_HEADERS))


class KafkaLog:
    """A log in a topic of Kafka."""

    def __init__(
        self,
        url: KafkaUrl,
        *,
        max_waiting_bytes: int = 64 * 1024 * 1024,
        max_ahead_bytes: int = MAX_AHEAD_BYTES,
        fact_publisher: Callable[[KafkaUrl, int], FactPublisher] | None = None,
        write_only: bool = False,
    ) -> None:
        """Open the log at `url`; its topic must be there. With `write_only`, no partition of it may be empty.

        Raises `LogUnavailable` where it is not, or no broker answers, `LogMismatch` where it is unfit or has another
        number of partitions than asked for, `NoGenesis`, `UnsupportedLibrary`
        where a codec is missing or kafka-python is not as expected, and `InvalidSetting`.
        """
        check_library()
        probe()
        self._url, self._fact_publisher = url, fact_publisher
        self._read_timeout_s = min(READ_TIMEOUT_S, url.delivery_timeout_ms / 1000)
        self._pid = os.getpid()
        admin = open_admin(url)
        try:
            topic = check_fit(url, describe_new(admin, url, url.topic, JUST_MADE_S))
            if write_only:
                check_begun(end_offsets_of(admin, url, topic))
        except BaseException:
            admin.close()
            raise
        self.identity, self.partitions = topic.identity, topic.partitions
        self._max_message_bytes, self.max_batch_bytes = topic.max_message_bytes, topic.max_batch_bytes
        self._max_ahead_bytes = max_ahead_bytes
        self._lookup = Lookup(url, self.identity, self.partitions, admin)
        self._grown = threading.Condition()
        """Guards what is known of the log: tails, ends, and what the stream has fetched."""
        self._tails = [RecordRun() for _ in range(self.partitions)]
        self._ends = [0] * self.partitions
        self._acknowledged = [0] * self.partitions
        """Where this process's last record ends."""
        self._waiters = 0
        self._failure: LogError | None = None
        self._stream: Stream | None = None
        self._starting = threading.Lock()
        self._is_closed = False
        self.writer = Writer(
            url, self.partitions, lambda: connect(url), self._keep_written, max_waiting_bytes, self.max_batch_bytes
        )  # fmt: skip

    # ── appending ──

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """Append all messages; returns when all replicas in sync have them (`port.Log`)."""
        self._check()
        return self.writer.append(messages, self._checked(messages)) if messages else []

    def append_soon(self, messages: Sequence[Message]) -> Future[list[Position]]:
        """Append all messages without waiting (`port.Log`)."""
        self._check()
        if messages:
            return self.writer.append_soon(messages, self._checked(messages))
        done: Future[list[Position]] = Future()
        done.set_result([])
        return done

    def _checked(self, messages: Sequence[Message]) -> list[int]:
        """The messages' sizes. One that the broker would refuse makes a producer unusable, so it is never sent."""
        checked_size(messages, self.partitions)
        sizes = sizes_of(messages, _HEADERS_SIZE)
        largest = max(sizes) + BATCH_OVERHEAD_BYTES
        if largest > self._max_message_bytes:
            key = messages[sizes.index(max(sizes))].key
            raise InvalidInput(
                f"log {self._url}: the message under the key {shown(key)} takes {largest} bytes, and the topic's"
                f" max.message.bytes is {self._max_message_bytes}: send less at once, or raise that limit"
            )
        return sizes

    def _keep_written(self, partition: int, messages: Sequence[Message], written: Delivered) -> None:
        """Keep for our own reader what the broker has just acknowledged."""
        start, at_ms = written.offsets[0], written.timestamp_ms
        end = written.offsets[-1] + 1
        with self._grown:
            if start < self._acknowledged[partition]:
                self._failure = LogMismatch(
                    f"log {self._url}, partition {partition}: a record was given offset {start}, after one at"
                    f" {self._acknowledged[partition] - 1}: the topic was deleted and recreated, or truncated. Find out"
                    " which before you open it again"
                )
                self._grown.notify_all()
                raise LogMismatch(*self._failure.args)
            self._acknowledged[partition] = end
            if at_ms is not None and end - start == len(messages):
                size = sum(len(message.value) for message in messages)
                tail = self._tails[partition]
                tail.add(Chunk(start, end, size, lambda: _written(partition, start, at_ms, messages)))
                tail.drop_oldest(MAX_TAIL_BYTES // self.partitions, MAX_TAIL_BATCHES // self.partitions)
            self._ends[partition] = max(self._ends[partition], end)
            if self._waiters:
                self._grown.notify_all()

    # ── reading ──

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on (`port.Log`)."""
        self._check()
        with self._grown:
            chunks = self._tails[partition].find(from_offset, max_records)
            if chunks and self._stream is not None:
                self._stream.passed(partition, from_offset)
        if chunks:
            return records_of(chunks, from_offset, max_records)
        stream = self._started_stream()
        found = stream.read(partition, from_offset, max_records)
        if found is None:
            return self._read_elsewhere(stream, partition, from_offset, max_records)
        if not found and self._end_after(partition, from_offset) > from_offset:
            stream.await_more(partition, from_offset, self._read_timeout_s)
            self._check()
            found = stream.read(partition, from_offset, max_records)
            if not found:
                if found is None:
                    return self.read(partition, from_offset, max_records)
                raise LogUnavailable(
                    f"log {self._url}, partition {partition}: the broker has a record at offset {from_offset}, and"
                    f" did not send it within {self._read_timeout_s:g} s: {stream.trouble or 'try again'}"
                )
        return found

    def _read_elsewhere(self, stream: Stream, partition: int, offset: int, limit: int) -> list[Record]:
        end = self._end_after(partition, offset)
        if offset == end:
            return []
        if not 0 <= offset < end:
            raise gone_error(self._url, self._lookup, partition, offset)
        goes_on = self._lookup.page_end(partition) == offset
        try:
            records = self._lookup.page(partition, offset, limit)
        except OffsetGone:
            raise gone_error(self._url, self._lookup, partition, offset) from None
        if goes_on:
            # A reader reads on and on: from here the stream fetches ahead for it.
            stream.move(partition, records[-1].offset + 1, IDLE_S)
        return records

    def _end_after(self, partition: int, offset: int) -> int:
        """The end of a partition: as it was known, if that is beyond `offset`, else as the broker says."""
        end = self._ends[partition]
        return end if end > offset else self.end_offsets()[partition]

    @property
    def lookup(self) -> Lookup:
        """Asks the broker, and reads here and there, without following the log."""
        self._check()
        return self._lookup

    def wait(self, position: Position, timeout_s: float) -> bool:
        """Wait until there is a record at `position` (`port.Log`)."""
        self._check()
        give_up = time.monotonic() + timeout_s
        partition, offset = position
        while self._ends[partition] <= offset:
            if self.end_offsets()[partition] > offset:
                break
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                return False
            self._started_stream()
            with self._grown:
                self._waiters += 1
                self._grown.wait_for(
                    lambda: self._ends[partition] > offset or self._has_ended(), min(left_s, ASK_EVERY_S)
                )
                self._waiters -= 1
            self._check()
        return True

    def end_offsets(self) -> list[int]:
        """The offset that the next record of each partition will have, from the broker (`port.Log`)."""
        self._check()
        with self._grown:
            known = list(self._ends)
        ends = self._lookup.end_offsets()
        if any(end < before for end, before in zip(ends, known, strict=True)):
            ends = self._ends_again(known)
        with self._grown:
            self._ends[:] = map(max, self._ends, ends)
        return ends

    def _ends_again(self, known: Sequence[int]) -> list[int]:
        """The broker says less than it did: either it does not know better yet, or records are gone."""
        give_up = time.monotonic() + READ_TIMEOUT_S
        while True:
            self._lookup.check_identity()
            ends = self._lookup.end_offsets()
            shorter = [number for number, end in enumerate(ends) if end < known[number]]
            if not shorter:
                return ends
            if time.monotonic() > give_up:
                number = shorter[0]
                self._failure = LogMismatch(
                    f"log {self._url}, partition {number}: it ended at offset {known[number]}, and ends at"
                    f" {ends[number]} now: the broker has lost acknowledged records. Restore the topic, or delete the"
                    " snapshot and the history to accept the loss"
                )
                raise LogMismatch(*self._failure.args)
            time.sleep(ASK_EVERY_S)

    # ── what machines share ──

    def join(
        self, member: MemberSettings, held: Callable[[], Held], changed: Callable[[], None], health: DutyHealth
    ) -> Membership:
        """Take a share of the duties (`shared_log.SharedLog`)."""
        self._check()
        return Membership(self._url, self.partitions, member, held, changed, health)

    def open_fact_publisher(self) -> FactPublisher:
        """Open the topics beside this one (`shared_log.SharedLog`)."""
        self._check()
        if self._fact_publisher is None:
            raise LogMismatch(
                f"log {self._url}: it was opened without its topics of facts and states; open it by its URL"
            )
        return self._fact_publisher(self._url, self.partitions)

    def known_ends(self) -> list[int]:
        """The ends as far as they are known here, without asking: what others append counts within milliseconds.

        Raises `LogUnavailable` while nothing is heard from the broker: then it is not known what others append.
        """
        self._check()
        trouble = self._started_stream().trouble
        if trouble is not None:
            raise LogUnavailable(f"the end of the log is not known: {trouble}")
        with self._grown:
            return list(self._ends)

    def await_growth(self, ends: Sequence[int], timeout_s: float) -> list[int]:
        """Wait until some partition goes beyond `ends`, as far as known here; the known ends."""
        self._check()
        self._started_stream()
        with self._grown:
            self._waiters += 1
            self._grown.wait_for(lambda: self._ends != list(ends) or self._has_ended(), timeout_s)
            self._waiters -= 1
        self._check()
        with self._grown:
            return list(self._ends)

    def _started_stream(self) -> Stream:
        stream = self._stream
        if stream is None:
            with self._starting:
                if self._stream is None:
                    self.end_offsets()
                    self._check()
                    self._stream = Stream(self._url, self._ends, self._grown, self._lookup, self._max_ahead_bytes)
                stream = self._stream
        return stream

    # ── the end ──

    def close(self) -> None:
        """Finish what is in flight, and release connections (`port.Log`). In a forked child, only the parent may."""
        if os.getpid() != self._pid:
            return
        with self._grown:
            self._is_closed = True
            self._grown.notify_all()
        self.writer.close()
        with self._starting:
            stream = self._stream
        if stream is not None:
            stream.close()
        self._lookup.close()

    def _has_ended(self) -> bool:
        return (
            self._is_closed
            or self._failure is not None
            or (self._stream is not None and self._stream.failure is not None)
        )

    def _check(self) -> None:
        """Called before any lock is taken: in a forked child, the thread that held it is gone."""
        if os.getpid() != self._pid:
            raise LogError(f"log {self._url} was opened before this process was forked: open it again in the child")
        if self._is_closed:
            raise EngineClosed(f"log {self._url} is closed: open it again")
        if self._failure is None and self._stream is not None:
            self._failure = self._stream.failure
        if self._failure is not None:
            # A new one each time: an exception that is raised again and again collects tracebacks without bound.
            raise type(self._failure)(*self._failure.args)


def _written(partition: int, start: int, at_ms: int, messages: Sequence[Message]) -> list[Record]:
    return [Record(partition, offset, at_ms, message[1], message[2]) for offset, message in enumerate(messages, start)]

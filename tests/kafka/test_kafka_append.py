"""Appending to Kafka: whole batches and single records are the same, and what cannot be taken affects no other
append."""

from __future__ import annotations

import gc
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kafka_fixtures import SharedBroker
from kafka_topics import Open, administering, eventually, message, new_topic, read_foreign, records, values

from lastseen.engine import errors
from lastseen.engine.log.kafka import producer as kafka_producer
from lastseen.engine.log.kafka.batching import MAX_BATCH_MESSAGES
from lastseen.engine.log.kafka.client import open_producer
from lastseen.engine.log.kafka.fetch import Fetch
from lastseen.engine.log.kafka.log import MAX_TAIL_BYTES, KafkaLog
from lastseen.engine.log.kafka.record_runs import Chunk
from lastseen.engine.log.kafka.records import MAX_BATCH_BYTES
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.port import Message, Position
from tests.patience import PATIENCE_S

ODD = [
    Message(0, "", b""), Message(0, "k" * 512, b"x" * 100_000), Message(0, "ключ-✓-\U0001f600", bytes(range(256)) * 3),
    Message(0, "a", b"\0"), Message(0, "a", b"x" * 63), Message(0, "a", b"x" * 64), Message(0, "b" * 64, b"y" * 8_192),
]  # fmt: skip


@pytest.fixture(params=["whole batches", "single records"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to kafka-python's producer."""
    if request.param == "single records":
        monkeypatch.setattr(kafka_producer, "takes_whole_batches", lambda _: False)
    return str(request.param)


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_both_ways_write_the_same_records(
    opened: Open, kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    choose = random.Random(7)
    sent = [*ODD, *(Message(0, f"k{n}", choose.randbytes(choose.randrange(400))) for n in range(3_000))]
    seen = []
    for is_known in (True, False):
        if not is_known:
            monkeypatch.setattr(kafka_producer, "takes_whole_batches", lambda _: False)
        url = new_topic(kafka_broker.address, options=f"?compression={compression}")
        log = opened(url)
        assert log.append(sent) == [Position(0, offset) for offset in range(len(sent))]
        kind = kafka_producer.WholeBatches if is_known else kafka_producer.SingleRecords
        assert type(log.writer._producer) is kind
        assert [record[3:5] for record in records(log)] == [each[1:] for each in sent]
        log.close()
        foreign = read_foreign(url, len(sent))
        assert [each.timestamp()[0] for each in foreign] == [2] * len(sent), "log append time"
        seen.append([(each.offset(), each.key(), each.value(), each.headers()) for each in foreign])
    assert seen[0] == seen[1]
    assert seen[0][0][3] == [("content-type", b"application/cloudevents+json")]
    assert [(key.decode(), value) for _, key, value, _ in seen[0]] == [each[1:] for each in sent]


def test_kafka_python_is_as_expected(opened: Open, kafka_broker: SharedBroker) -> None:
    log = opened(new_topic(kafka_broker.address))
    log.append([message("a")])
    assert type(log.writer._producer) is kafka_producer.WholeBatches, "the pinned version sends whole batches"


def test_what_was_acknowledged_is_read_as_others_read_it(opened: Open, kafka_broker: SharedBroker, way: str) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url)
    for number in range(20):
        log.append([message(f"{number}.{n}") for n in range(number)] or [message("none")])
    ours = records(log, count=log.end_offsets()[0])
    if way == "whole batches":
        assert log._stream is None, "no process needs to fetch what it has just written"
    assert records(opened(url)) == ours


class Held:
    """A producer that keeps the first batch to itself until the test lets it continue."""

    def __init__(self, log: KafkaLog) -> None:
        self.sizes: list[int] = []
        self._go, self._real = threading.Event(), log.writer._producer.send_batch
        self._waiting: list[Any] = []
        log.writer._producer.send_batch = self._send_batch

    def _send_batch(self, *batch: Any) -> None:
        self.sizes.append(len(batch[1]))
        if len(self.sizes) == 1:
            self._waiting.append(batch)
        else:
            self._real(*batch)

    def go_on(self) -> None:
        """Send what was kept."""
        self._real(*self._waiting.pop())


def test_callers_share_batches(opened: Open, kafka_broker: SharedBroker) -> None:
    log = opened(new_topic(kafka_broker.address))
    log.append([message("first")])
    held = Held(log)
    futures = [log.append_soon([message(str(number))]) for number in range(1_000)]
    assert held.sizes == [1], "what comes while a batch is on its way waits, and goes together"
    held.go_on()
    assert [future.result(PATIENCE_S)[0].offset for future in futures] == list(range(1, 1_001))
    assert held.sizes == [1, 999]


def test_full_batches_go_ahead_in_their_order(opened: Open, kafka_broker: SharedBroker) -> None:
    log = opened(new_topic(kafka_broker.address))
    log.append([message("first")])
    order, slow = [], threading.Event()
    send_batch = log.writer._producer.send_batch

    def note(*batch: Any) -> None:
        if not order:
            slow.wait(PATIENCE_S)  # others come meanwhile
        order.append(batch[1][0].key)
        send_batch(*batch)

    log.writer._producer.send_batch = note
    full = [[message(f"{number}")] * MAX_BATCH_MESSAGES for number in range(7)]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(log.append_soon, full[0])
        assert eventually(lambda: log.writer._lanes[0].is_sending)
        rest = [log.append_soon(each) for each in full[1:]]
        slow.set()
        futures = [first.result(PATIENCE_S), *rest]
    starts = [future.result(PATIENCE_S)[0].offset for future in futures]
    assert starts == [1 + MAX_BATCH_MESSAGES * number for number in range(7)]
    assert order == [f"key-{number}" for number in range(7)]


def test_a_large_call_is_cut_and_keeps_its_order(opened: Open, kafka_broker: SharedBroker) -> None:
    log = opened(new_topic(kafka_broker.address, 3))
    sent = [message(f"{number}", number % 7 % 3) for number in range(MAX_BATCH_MESSAGES * 3 + 5)]
    sent += [Message(1, "big", bytes([number]) * (MAX_BATCH_BYTES // 3)) for number in range(10)]
    placed = log.append(sent)
    for partition in range(3):
        mine = [each for each in sent if each.partition == partition]
        places = [place.offset for place, each in zip(placed, sent, strict=True) if each.partition == partition]
        assert places == list(range(len(mine)))
        assert values(log, partition) == [each.value for each in mine]


def test_batches_are_no_larger_than_they_may_be(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_topic(kafka_broker.address)
    log = opened(url)
    futures = [log.append_soon([message(f"{n}.{k}") for k in range(7)]) for n in range(1_500)]
    futures += [log.append_soon([Message(0, "k", b"x" * 90_000)] * 3) for _ in range(20)]
    for future in futures:
        future.result(PATIENCE_S)
    fetch = Fetch(parse_kafka_url(url), 10, 1 << 20, 5_000)
    fetch.assign({0: 0})
    chunks: list[Chunk] = []
    while not chunks or chunks[-1].end < log.end_offsets()[0]:
        chunks += fetch.poll(1_000).get(0, [])
    fetch.close()
    assert max(chunk.end - chunk.start for chunk in chunks) <= MAX_BATCH_MESSAGES
    assert max(chunk.size for chunk in chunks) <= MAX_BATCH_BYTES + 100
    assert len(chunks) < 200, "and not much smaller, where there is more to send"


def test_what_is_kept_of_ones_own_is_bounded(opened: Open, kafka_broker: SharedBroker) -> None:
    log = opened(new_topic(kafka_broker.address, 2))
    for _ in range(30):
        log.append([Message(1, "k", b"x" * 50_000)] * 10)
    assert log._tails[1].size <= MAX_TAIL_BYTES // 2
    assert [record.offset for record in records(log, 1, count=300)] == list(range(300))


# ── what cannot be taken ──


@pytest.mark.parametrize("limit", [1_048_588, 20_000])
def test_what_is_too_large_for_the_topic_is_refused_and_changes_nothing(
    opened: Open, kafka_broker: SharedBroker, limit: int, way: str
) -> None:
    log = opened(new_topic(kafka_broker.address, max_message_bytes=limit))
    log.append([message("a")])
    for append in (log.append, log.append_soon):
        with pytest.raises(errors.InvalidInput, match=r"key-b.*max\.message\.bytes"):
            append([message("before"), Message(0, "key-b", b"x" * limit)])
    largest = limit - 300
    while True:  # the largest that is let through is taken, too
        try:
            log.append([Message(0, "key-c", b"x" * largest)])
        except errors.InvalidInput:
            break
        largest += 20
    assert largest > limit - 200, "more is refused than must be"
    assert log.append([message("d")])[0] == Position(0, log.end_offsets()[0] - 1)
    assert log.writer.producers == 1


def test_a_limit_that_was_lowered_meanwhile_fails_that_append_alone(opened: Open, kafka_broker: SharedBroker) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    url = new_topic(kafka_broker.address)
    log = opened(url)
    log.append([message("a")])
    with administering(url) as (admin, kafka_url):
        changed = ConfigResource(ConfigResourceType.TOPIC, kafka_url.topic, {"max.message.bytes": "10000"})
        admin.alter_configs([changed])
    failures: list[BaseException] = []

    def is_refused() -> bool:
        try:
            log.append([Message(0, f"k{n}", b"x" * 1_000) for n in range(50)])
        except errors.LogError as error:
            failures.append(error)
        return bool(failures)

    assert eventually(is_refused)
    assert type(failures[0]) is errors.LogUnavailable, failures
    end = log.end_offsets()[0]
    assert log.append([message("b")]) == [Position(0, end)]
    assert log.writer.producers == 2


# ── bounds ──


def test_only_so_much_is_under_way(opened: Open, kafka_broker: SharedBroker) -> None:
    log = opened(new_topic(kafka_broker.address), max_waiting_bytes=50_000)
    log.append([message("first")])
    gate, send_batch = threading.Event(), log.writer._producer.send_batch

    def hold(*arguments: Any) -> None:
        gate.wait(PATIENCE_S)
        send_batch(*arguments)

    log.writer._producer.send_batch = hold
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(log.append, [Message(0, "a", b"x" * 40_000)])
        assert eventually(lambda: log.writer._waiting_bytes > 40_000)
        with pytest.raises(errors.LogUnavailable, match="50000"):
            log.append_soon([Message(0, "b", b"x" * 20_000)])
        waiting = pool.submit(log.append, [Message(0, "c", b"x" * 20_000)])
        assert not waiting.done()
        gate.set()
        assert first.result(PATIENCE_S) == [Position(0, 1)]
        assert waiting.result(PATIENCE_S) == [Position(0, 2)]
    assert log.writer._waiting_bytes == 0


def test_an_append_larger_than_the_bound_passes_alone(opened: Open, kafka_broker: SharedBroker) -> None:
    log = opened(new_topic(kafka_broker.address), max_waiting_bytes=1_000)
    assert log.append([Message(0, "a", b"x" * 40_000)]) == [Position(0, 0)]


# ── the settings that are forced ──


def test_what_is_unsafe_by_default_is_set(opened: Open, kafka_broker: SharedBroker) -> None:
    log = opened(new_topic(kafka_broker.address))
    log.append([message("a")])
    log.wait(Position(0, 5), 0.01)
    producer = log.writer._producer._producer
    assert (producer.config["acks"], producer.config["enable_idempotence"]) == (-1, True)
    assert producer._accumulator.config["delivery_timeout_ms"] == 30_000
    consumer = log._lookup._fetch._consumer
    assert consumer.config["enable_auto_commit"] is False
    assert not consumer._subscription.has_default_offset_reset_policy()
    for client in (producer._sender._client, consumer._client, log._lookup._admin._client):
        assert client.cluster.metadata_request().allow_auto_topic_creation is False


def sockets_to(address: str) -> set[socket.socket]:
    """The open sockets of this process that lead there."""
    port, found = int(address.rpartition(":")[2]), set()
    for each in gc.get_objects():
        if isinstance(each, socket.socket) and each.fileno() >= 0 and each.family in (socket.AF_INET, socket.AF_INET6):
            try:
                if each.getpeername()[1] == port:
                    found.add(each)
            except OSError:
                continue  # it leads nowhere
    return found


def test_what_a_producer_has_not_sent_when_it_is_thrown_away_is_sent_by_no_kernel(kafka_broker: SharedBroker) -> None:
    before = sockets_to(kafka_broker.address)
    kafka_url = parse_kafka_url(new_topic(kafka_broker.address))
    producer = open_producer(kafka_url)
    try:
        producer.send(kafka_url.topic, b"a record, for a connection that stays", partition=0).get(PATIENCE_S)
        ours = sockets_to(kafka_broker.address) - before
        assert ours
        lingers = [each.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) for each in ours]
        assert [struct.unpack("ii", each) for each in lingers] == [(1, 0)] * len(ours)
    finally:
        producer.close(timeout=PATIENCE_S)


def test_a_batch_that_comes_while_the_producer_is_closed_is_answered(
    kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = kafka_producer.connect(parse_kafka_url(new_topic(kafka_broker.address)))
    queue = producer._queue
    batches, sender = queue._accumulator._incomplete, queue._sender
    add, outcomes = batches.add, list[Any]()
    closing = threading.Thread(target=producer.close)

    def close_first(batch: Any) -> None:
        closing.start()
        sender.join(0.5)  # where nothing holds it back, it has failed what it knows of and ended by then
        add(batch)

    monkeypatch.setattr(batches, "add", close_first)
    try:
        producer.send_batch(0, [message("late")], time.monotonic(), outcomes.append)
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
        # The sender may have been quicker than who closes; what counts is that there is an answer, and one only.
        assert eventually(lambda: bool(outcomes))
        assert len(outcomes) == 1
    finally:
        producer.close()

"""A topic of Kafka: what appending, following, opening, expiring and taking over cost on a real broker.

The peers append the same bytes to the same broker, acknowledged by it: kafka-python's own `send()`, and librdkafka's
producer. One node, all replicas one: the figures say what the clients cost, not what a cluster's network does.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from kafka import KafkaProducer

import lastseen
from benchmarks.measure import Row, Size, at_most, interleaved, rate, ratio
from benchmarks.servers import PeerMissing
from benchmarks.workload import fill, key_of
from infra.kafka.choice import NoKafka, choose
from infra.kafka.cluster import Cluster
from lastseen.engine.clock import SystemClock, iso_from_ms
from lastseen.engine.identifiers import new_event_ids
from lastseen.engine.log.kafka.log import KafkaLog
from lastseen.engine.log.kafka.new_log import create_log
from lastseen.engine.log.kafka.records import EVENT_HEADERS
from lastseen.engine.log.kafka.topic import NewTopics
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.port import Message
from lastseen.engine.partitioner import partition_of
from lastseen.engine.plain_touch import written
from lastseen.engine.session import Policy
from lastseen.projections.partition import Partition

PARTITIONS = 4
SESSIONS = 10_000
BATCH = 2_000
POLICY = Policy(idle_ttl_ms=86_400_000)
BACKGROUND_PER_S = 1_000
HEADERS = list(EVENT_HEADERS)
"""What every record bears, by the CloudEvents binding; the peers' records too."""

NOTES = """
- One Kafka node on the same machine, which shares its cores with the clients. `send()` and librdkafka append the same
  bytes, header included, with acks=all and idempotence, 5 ms of linger and batches of 512 KiB; each acknowledgement is
  looked at.
"""


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A broker's address. Raises `PeerMissing` where this machine cannot run one."""
    try:
        cluster = Cluster(choose(), folder, 1)
    except NoKafka as error:
        raise PeerMissing("kafka", str(error)) from None
    cluster.start()
    try:
        yield cluster.address
    finally:
        cluster.kill()


def new_topic(address: str) -> str:
    """The URL of a log whose topics have just been made."""
    url = f"kafka://{address}/bench-{uuid.uuid4().hex[:12]}"
    create_log(parse_kafka_url(url), NewTopics(PARTITIONS))
    return url


def some_touches(session_ids: list[str], events: int) -> list[Message]:
    """Touches of so many sessions in turn, ready to be appended."""
    now_ms = SystemClock().now_ms()
    time_text, ids = iso_from_ms(now_ms), new_event_ids(now_ms, events)
    keys = [key_of(number) for number in range(len(session_ids))]
    places = [partition_of(key, PARTITIONS) for key in keys]
    return [
        Message(
            places[n % len(keys)], keys[n % len(keys)],
            written(ids[n], "/bench", keys[n % len(keys)], time_text, session_ids[n % len(keys)]),
        )
        for n in range(events)
    ]  # fmt: skip


def append_in_batches(log: KafkaLog, messages: list[Message]) -> float:
    """Events a second: batch after batch, each acknowledged in the end."""
    started = time.perf_counter()
    in_flight: list[Future[Any]] = []
    for start in range(0, len(messages), BATCH):
        in_flight.append(log.append_soon(messages[start : start + BATCH]))
        if len(in_flight) > 20:
            in_flight.pop(0).result(60)
    for future in in_flight:
        future.result(60)
    return len(messages) / (time.perf_counter() - started)


def append_by_send(producer: Any, topic: str, messages: list[Message]) -> float:
    """Events a second by kafka-python's `send()`, each future looked at."""
    started = time.perf_counter()
    futures = [
        producer.send(topic, value, key.encode(), partition=partition, headers=HEADERS)
        for partition, key, value in messages
    ]
    for future in futures:
        future.get(60)
    return len(messages) / (time.perf_counter() - started)


def append_by_librdkafka(producer: Producer, topic: str, messages: list[Message]) -> float:
    """Events a second by librdkafka, each delivery report looked at."""
    delivered = 0

    def count(error: Any, _: Any) -> None:
        nonlocal delivered
        assert error is None, error
        delivered += 1

    started = time.perf_counter()
    for partition, key, value in messages:
        while True:
            try:
                producer.produce(topic, value, key, partition, on_delivery=count, headers=HEADERS)
                break
            except BufferError:
                producer.poll(0.01)
    assert producer.flush(60) == 0
    assert delivered == len(messages)
    return len(messages) / (time.perf_counter() - started)


def appending(address: str, repetitions: int, events: int) -> list[Row]:
    """Appends of one process, acknowledged by the broker."""
    url = new_topic(address)
    kafka_url = parse_kafka_url(url)
    messages = some_touches(["s" * 22] * SESSIONS, events)
    sent_singly = messages[: events // 4]
    theirs = KafkaProducer(
        bootstrap_servers=list(kafka_url.servers),
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        batch_size=512 * 1024,
    )
    native = Producer(
        {"bootstrap.servers": ",".join(kafka_url.servers), "acks": "all", "enable.idempotence": True, "linger.ms": 5,
         "batch.size": 512 * 1024, "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    with closing(KafkaLog(kafka_url)) as log, closing(theirs):
        samples = interleaved(
            repetitions,
            ours=lambda: append_in_batches(log, messages),
            send=lambda: append_by_send(theirs, kafka_url.topic, sent_singly),
            librdkafka=lambda: append_by_librdkafka(native, kafka_url.topic, messages),
        )
    rows = [
        rate("Kafka: appends of one process in batches, acknowledged", samples["ours"], 100_000),
        rate("Kafka: appends by send()", samples["send"]),
        rate("Kafka: appends by librdkafka", samples["librdkafka"]),
    ]
    for row, row.subject in zip(rows, ("engine, kafka://", "KafkaProducer.send()", "librdkafka"), strict=True):
        row.plot, row.durability = "appends of one process, acknowledged", "what all replicas lose at once"
    return [
        *rows,
        ratio("Kafka: appends in batches / KafkaProducer.send()", samples, "ours", "send", 4.0),
        ratio("Kafka: appends in batches / librdkafka", samples, "ours", "librdkafka", 0.5),
    ]


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def fold_seconds(url: str, partitions: list[int]) -> float:
    """How long it takes to read and fold some partitions from their beginnings, once the log is open."""
    with closing(KafkaLog(parse_kafka_url(url))) as log:
        ends = log.end_offsets()
        states = {number: Partition(number) for number in partitions}
        _say_ready()
        sys.stdin.readline()
        started = time.perf_counter()
        left = dict(states)
        while left:
            for number, state in list(left.items()):
                for record in log.read(number, state.checkpoint, 2_000):
                    state.fold(record)
                if state.checkpoint >= ends[number]:
                    del left[number]
        return time.perf_counter() - started


def _folding(url: str, *shares: list[int]) -> float:
    """Seconds until the last of so many processes has folded its share."""
    script = (
        "import json, sys; from benchmarks import kafka_topic as k;"
        "print(k.fold_seconds(sys.argv[1], json.loads(sys.argv[2])))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, url, json.dumps(share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in shares
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return max(float(child.communicate(timeout=300)[0]) for child in children)


def following(address: str, repetitions: int, events: int) -> list[Row]:
    """Read and fold a topic: one process, and two with half of the partitions each."""
    url = new_topic(address)
    with closing(KafkaLog(parse_kafka_url(url))) as log:
        session_ids = fill(log, SESSIONS, SystemClock().now_ms(), POLICY, partitions=PARTITIONS)
        append_in_batches(log, some_touches(session_ids, events - SESSIONS))
    samples = interleaved(
        repetitions,
        one=lambda: events / _folding(url, list(range(PARTITIONS))),
        two=lambda: events / _folding(url, [0, 1], [2, 3]),
    )
    return [
        rate("Kafka: follow and fold, one process", samples["one"], 80_000),
        ratio("Kafka: follow and fold, two processes / one", samples, "two", "one", 1.6),
    ]


def write_steadily(url: str, stop: threading.Event) -> None:
    """So many touches a second, of sessions of their own, in groups of ten."""
    with closing(KafkaLog(parse_kafka_url(url))) as log:
        messages = some_touches(["s" * 22] * SESSIONS, 10)
        began, sent = time.perf_counter(), 0
        while not stop.is_set():
            log.append_soon(messages)
            sent += len(messages)
            stop.wait(max(began + sent / BACKGROUND_PER_S - time.perf_counter(), 0))


def background_writer(url: str) -> None:
    """`write_steadily` for a process of its own, until its input ends."""
    stop = threading.Event()
    thread = threading.Thread(target=write_steadily, args=(url, stop))
    thread.start()
    _say_ready()
    sys.stdin.readline()
    stop.set()
    thread.join()


@contextmanager
def background_load(url: str) -> Iterator[None]:
    """Another process that appends all the while."""
    script = "import sys; from benchmarks import kafka_topic as k; k.background_writer(sys.argv[1])"
    child = subprocess.Popen(
        [sys.executable, "-c", script, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    try:
        yield
    finally:
        child.communicate("stop\n", timeout=60)


def latencies(address: str, opens: int) -> list[Row]:
    """Opening a session and waiting for it, and how late an expiry is announced, beside other load."""
    url = new_topic(address)
    spent: list[float] = []
    late: list[float] = []
    with lastseen.open_engine(url) as engine, background_load(url):
        for number in range(opens):
            started = time.perf_counter()
            engine.open(f"open-{number}")
            spent.append((time.perf_counter() - started) * 1e3)
        _await(lambda: len(engine.owned()) == PARTITIONS)
        with engine.subscribe() as facts:
            for number in range(opens // 4):
                engine.open(f"brief-{number}", policy=lastseen.policy(idle_ttl="2s"))
            while len(late) < opens // 4:
                fact = facts.get(timeout_s=30)
                assert fact is not None, "an expiry was not announced"
                if fact.kind == "ended":
                    late.append(time.time() - fact.at_ms / 1e3)
    return [
        at_most("Kafka: open and wait, p50, beside 1,000 events/s", [_share(spent, 50)], "ms", 10.0),
        at_most("Kafka: open and wait, p99, beside 1,000 events/s", [_share(spent, 99)], "ms", 50.0),
        at_most("Kafka: expiry announced and folded after its deadline, p99", [_share(late, 99)], "s", 1.0),
    ]


def taking_over(address: str) -> list[Row]:
    """An engine is killed: until another has its duties, and the longest that an append took meanwhile."""
    url = new_topic(address)
    script = (
        "import sys, time, lastseen; engine = lastseen.open_engine(sys.argv[1])\n"
        "while not engine.owned(): time.sleep(0.05)\n"
        "print('owns', flush=True); sys.stdin.readline()"
    )
    longest = 0.0
    with lastseen.open_engine(url) as engine:
        child = subprocess.Popen(
            [sys.executable, "-c", script, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "owns\n"
        _await(lambda: 0 < len(engine.owned()) < PARTITIONS)
        child.kill()
        began = time.perf_counter()
        number = 0
        while len(engine.owned()) < PARTITIONS:
            started = time.perf_counter()
            engine.open(f"key-{number}")
            number += 1
            longest = max(longest, time.perf_counter() - started)
        spent = time.perf_counter() - began
        child.communicate()
    return [
        at_most("Kafka: engine killed, another has its duties after", [spent], "s", 15.0),
        at_most("Kafka: the longest append meanwhile", [longest], "s", 1.0),
    ]


def _await(condition: Any) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.02)


def _share(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def run(folder: Path, size: Size) -> list[Row]:
    """All figures of this file; in short, only the ratios of appending."""
    events = 60_000 if size.is_quick else 300_000
    with broker(folder / "kafka") as address:
        rows = appending(address, size.repetitions, events)
        if not size.is_quick:
            rows += [*following(address, size.repetitions, events), *latencies(address, 2_000), *taking_over(address)]
        return rows

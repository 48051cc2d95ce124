"""Topics of a test's own, and what others than lastseen do with them: librdkafka writes and reads, an admin meddles."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from kafka import KafkaAdminClient

from lastseen.engine.log.kafka.facts_and_states import KafkaFactPublisher
from lastseen.engine.log.kafka.log import KafkaLog
from lastseen.engine.log.kafka.new_log import write_genesis
from lastseen.engine.log.kafka.topic import NewTopics, create
from lastseen.engine.log.kafka.url import KafkaUrl, parse_kafka_url
from lastseen.engine.log.port import Log, Message, Record
from tests.patience import EVENTUALLY_S, PATIENCE_S, paced_s

Open = Callable[..., KafkaLog]
Foreign = tuple[bytes | None, bytes | None]


def new_url(address: str, partitions: int = 1, options: str = "", **wanted: Any) -> str:
    """The URL of a log that has just been made: it holds its genesis records."""
    url = new_topic(address, partitions, **wanted)
    write_genesis(parse_kafka_url(url))
    return url + options


def new_topic(address: str, partitions: int = 1, options: str = "", **wanted: Any) -> str:
    """The URL of a log whose topics have just been made and hold nothing: for an import, or for any records."""
    url = f"kafka://{address}/test-{uuid.uuid4().hex}"
    create(parse_kafka_url(url), NewTopics(partitions, **wanted))
    return url + options


def open_kafka(url: str, **settings: Any) -> KafkaLog:
    """The log at a URL, with settings that only tests change."""
    return KafkaLog(parse_kafka_url(url), fact_publisher=KafkaFactPublisher, **settings)


def message(text: str, partition: int = 0) -> Message:
    """A message whose key and value tell it apart."""
    return Message(partition, f"key-{text}", text.encode())


def values(log: Log, partition: int = 0, window: int = 1_000) -> list[bytes | None]:
    """The values in one partition."""
    return [record.value for record in records(log, partition, window)]


def records(log: Log, partition: int = 0, window: int = 1_000, count: int | None = None) -> list[Record]:
    """The records in one partition; the first `count` of them, if given."""
    found: list[Record] = []
    while len(found) != count and (page := log.read(partition, len(found), window)):
        found += page
    return found


def eventually(what: Callable[[], bool], within_s: float = EVENTUALLY_S) -> bool:
    """Whether something becomes true in time: in the seconds of a quiet machine."""
    give_up_s = paced_s() + within_s
    while not what():
        if paced_s() > give_up_s:
            return False
        time.sleep(0.01)  # waits: for a condition that another process brings about
    return True


def write_foreign(url: str, sent: Sequence[Foreign], partition: int = 0, **settings: Any) -> None:
    """What another program, in another language, may write."""
    kafka_url = parse_kafka_url(url)
    producer = Producer({"bootstrap.servers": ",".join(kafka_url.servers), "acks": "all", "linger.ms": 20} | settings)
    for key, value in sent:
        producer.produce(kafka_url.topic, value, key, partition)
    assert producer.flush(PATIENCE_S) == 0


def read_foreign(url: str, count: int, partition: int = 0) -> list[Any]:
    """What another program sees: librdkafka's messages."""
    kafka_url = parse_kafka_url(url)
    consumer = Consumer(
        {"bootstrap.servers": ",".join(kafka_url.servers), "group.id": "unused", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(kafka_url.topic, partition, 0)])
    found: list[Any] = []
    give_up_s = paced_s() + EVENTUALLY_S
    while len(found) < count and paced_s() < give_up_s:
        found += consumer.consume(count - len(found), 1)
    consumer.close()
    assert [each.error() for each in found] == [None] * count
    return found


@contextmanager
def administering(url: str) -> Iterator[tuple[KafkaAdminClient, KafkaUrl]]:
    """A user with the rights to change topics."""
    kafka_url = parse_kafka_url(url)
    admin = KafkaAdminClient(bootstrap_servers=list(kafka_url.servers))
    try:
        yield admin, kafka_url
    finally:
        admin.close()

"""A producer with librdkafka's default partitioner: what it writes elsewhere than Kafka's default would is void."""

from __future__ import annotations

from confluent_kafka import Producer
from kafka_fixtures import SharedBroker
from kafka_topics import eventually, new_url

import lastseen
from lastseen.engine.clock import SystemClock, iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.events import Created, CreatedData, Touched, TouchedData
from lastseen.engine.identifiers import new_event_id, new_session_id
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import Policy
from tests.kafka.published import checkpoints_of, refold
from tests.patience import PATIENCE_S

PARTITIONS, KEYS = 3, 60


def created(key: str, now_ms: int) -> bytes:
    """The beginning of a session, as another service would write it."""
    data = CreatedData(session_id=new_session_id(), policy=Policy())
    return encode(Created(id=new_event_id(now_ms), source="/foreign", subject=key, time=iso_from_ms(now_ms), data=data))


def touched(key: str, session_id: str, now_ms: int) -> bytes:
    """A touch, as another service would write it."""
    data = TouchedData(session_id=session_id)
    return encode(Touched(id=new_event_id(now_ms), source="/foreign", subject=key, time=iso_from_ms(now_ms), data=data))


def test_what_librdkafka_writes_by_default_makes_no_second_session(kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address, PARTITIONS)
    kafka_url, now_ms = parse_kafka_url(url), SystemClock().now_ms()
    producer, landed = Producer({"bootstrap.servers": kafka_broker.address, "acks": "all"}), dict[str, int]()
    with lastseen.open_engine(url) as one, lastseen.open_engine(url) as two:
        live = [f"key-{number}" for number in range(KEYS)]
        session_ids = {key: one.open(key).session_id for key in live}
        new = [f"new-{number}" for number in range(KEYS)]
        for key in [*live, *new]:
            value = touched(key, session_ids[key], now_ms) if key in session_ids else created(key, now_ms)
            producer.produce(
                kafka_url.topic, value, key,
                on_delivery=lambda _, message: landed.update({message.key().decode(): message.partition()}),
            )  # fmt: skip
        assert producer.flush(PATIENCE_S) == 0
        at_home = {key for key, number in landed.items() if number == partition_of(key, PARTITIONS)}
        astray = {*live, *new} - at_home
        assert at_home, "some are where Kafka's default would put them"
        assert astray, "others are not"
        for engine in (one, two):
            assert eventually(lambda engine=engine: engine.checkpoints() == checkpoints_of(refold(url)))
            assert engine.statistics()["void"] == {"wrong_partition": len(astray)}
            listed = {session.key for session in engine.list(limit=1_000).sessions}
            assert listed == {key for key in [*live, *new] if engine.get(key) is not None}
            assert listed == {*live, *(at_home & {*new})}
            for key in live:
                session = engine.get(key)
                assert session is not None
                assert (session.session_id, session.version) == (session_ids[key], 1 + (key in at_home))
        key = min(astray & {*live})
        assert [entry.verdict.label for entry in one.history(key)].count("wrong_partition") == 1
        assert one.explain(key).status == "active", "its own partition says so"

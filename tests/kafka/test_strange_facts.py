"""Strangers on `<topic>.facts`: whatever real clients leave there, publishing continues, and no fact is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka_topics import eventually, new_url, open_kafka, records, write_foreign
from raw_batches import batch_of, produce
from test_compressed_batches import GZIP, SENT, damaged, gzip_of_one_value
from test_transactions import ABORTED, COMMITTED, OPEN, transaction

import lastseen
from lastseen.doctor.examine import examine
from lastseen.doctor.findings import Severity, Subject
from lastseen.engine.log.kafka.decompression import MAX_INFLATED_BYTES
from lastseen.engine.log.kafka.url import FACTS, STATE, parse_kafka_url
from lastseen.engine.log.port import Record
from lastseen.engine.log.shared_log import OutboundRecord
from lastseen.projections.facts import FactId, published_fact_id
from tests.kafka.published import facts_due, live_in, states_in
from tests.kafka_fixtures import SharedBroker
from tests.patience import PATIENCE_S

PARTITIONS = 2
FAR = 10**12
Stranger = Callable[[str], None]


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    return new_url(kafka_broker.address, PARTITIONS)


@pytest.fixture
def opened() -> Iterator[Callable[..., lastseen.Engine]]:
    """Opens engines, and shuts them down after the test."""
    engines: list[lastseen.Engine] = []

    def open_one(url: str, **settings: Any) -> lastseen.Engine:
        engines.append(lastseen.open_engine(url, **settings))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.shutdown()


def facts_topic(url: str) -> list[list[Record]]:
    """All that stands in the topic of facts, read as a log: librdkafka stops where something cannot be read."""
    log = open_kafka(url + FACTS)
    try:
        return [records(log, number) for number in range(PARTITIONS)]
    finally:
        log.close()


def count(url: str) -> int:
    return sum(map(len, facts_topic(url)))


def live(engine: lastseen.Engine, rounds: int) -> None:
    for number in range(rounds):
        key = f"key-{number % 7}"
        engine.open(key)
        engine.touch(key)
        if number % 5 == 0:
            engine.rotate(key)
        if number % 6 == 0:
            engine.close(key)


def forged(url: str, number: int, offset: int) -> bytes:
    """The last fact of a partition, of another record."""
    values = [each.value for each in facts_topic(url)[number] if each.value is not None]
    fact = json.loads([value for value in values if value.startswith(b'{"')][-1])
    fact["data"] |= {"offset": offset, "forged": True}
    fact["id"] = f"{number}-{offset}-0"
    return json.dumps(fact, separators=(",", ":")).encode()


def everywhere(topic_url: str, value: bytes | None, **settings: Any) -> None:
    """librdkafka writes a value to each partition."""
    for number in range(PARTITIONS):
        write_foreign(topic_url, [(b"key-1", value)] * 3, number, **settings)


def by_kafka_python(topic_url: str, codec: str | None) -> None:
    """kafka-python writes garbage to each partition, in whole batches."""
    kafka_url = parse_kafka_url(topic_url)
    producer = KafkaProducer(bootstrap_servers=list(kafka_url.servers), compression_type=codec, linger_ms=50)
    topic, value = kafka_url.topic, b"no fact" * 40
    sent = [producer.send(topic, value, b"key", partition=n % PARTITIONS) for n in range(20)]
    for each in sent:
        each.get(PATIENCE_S)
    producer.close()


def forging(offset: int) -> Stranger:
    def forge(topic_url: str) -> None:
        url = topic_url.removesuffix(FACTS)
        for number in range(PARTITIONS):
            write_foreign(topic_url, [(b"key-1", forged(url, number, offset))], number)

    return forge


def in_transactions(topic_url: str) -> None:
    for ends in (COMMITTED, ABORTED):
        with transaction(topic_url, ends, {number: [b"x", b"y"] for number in range(PARTITIONS)}, b"key-1"):
            pass


def raw(topic_url: str, body: bytes, codec: int, count: int = 1) -> None:
    for number in range(PARTITIONS):
        assert produce(topic_url, batch_of(body, count, codec), number)[0] == 0


ANYWHERE: dict[str, Stranger] = {
    "garbage": lambda url: everywhere(url, b"no fact"),
    "a tombstone": lambda url: everywhere(url, None),
    "no JSON": lambda url: everywhere(url, b"\xff\x00" * 9),
    "snappy": lambda url: everywhere(url, b"no fact" * 99, **{"compression.type": "snappy"}),
    "zstd": lambda url: everywhere(url, b"no fact" * 99, **{"compression.type": "zstd"}),
    "lz4": lambda url: everywhere(url, b"no fact" * 99, **{"compression.type": "lz4"}),
    "kafka-python": lambda url: by_kafka_python(url, None),
    "kafka-python, gzip": lambda url: by_kafka_python(url, "gzip"),
    "kafka-python, lz4": lambda url: by_kafka_python(url, "lz4"),
    "transactions": in_transactions,
    **{what: lambda url, batch=batch: raw(url, *batch, len(SENT)) for what, batch in damaged().items()},
    "a batch that explodes": lambda url: raw(url, gzip_of_one_value(MAX_INFLATED_BYTES + 1), GZIP),
}
STRANGERS = {"a far fact": forging(FAR), "a near fact": forging(3)} | ANYWHERE
"""What may be written to the topic of facts."""


def complete(url: str) -> bool:
    """Whether every fact is there, its first copies in order, whatever strangers have written between them."""
    due = [{(offset, k): kind for offset, k, kind in each} for each in facts_due(url)]
    for number, found_records in enumerate(facts_topic(url)):
        found: list[tuple[int, int]] = []
        last = (-1, -1)
        for record in found_records:
            try:
                fact = json.loads(record.value or b"")["data"]
                place = (-1, -1) if "forged" in fact else (fact["offset"], fact["k"])
            except (ValueError, TypeError, LookupError):
                continue
            if place > last and due[number].get(place) == fact["kind"] and fact["session_id"]:
                found.append(place)
                last = place
        if found != sorted(due[number]):
            return False
    return True


def found_behind(url: str, strange: Stranger) -> None:
    """What an owner finds when a stranger has written after the last fact."""
    log = open_kafka(url)
    fact_publisher = log.open_fact_publisher()
    try:
        fact = json.dumps({"id": "0-7-0", "source": "/x", "data": {"offset": 7}}).encode()
        for number in range(PARTITIONS):
            fact_publisher.publish_facts(number, [OutboundRecord("key", fact)])
        strange(url + FACTS)
        for number in range(PARTITIONS):
            records = [record for page in fact_publisher.newest_facts(number) for record in reversed(page)]
            assert [record.offset for record in records] == sorted((each.offset for each in records), reverse=True)
            assert published_fact_id(records[0], "/x") != FactId(0, 7, 0), "something stands behind it"
            assert [record.value for record in records if published_fact_id(record, "/x") == FactId(0, 7, 0)] == [fact]
    finally:
        fact_publisher.close()
        log.close()


@pytest.mark.parametrize("name", STRANGERS)
def test_a_fact_is_found_before_what_strangers_have_written(name: str, url: str) -> None:
    found_behind(url, STRANGERS[name])


@pytest.mark.parametrize("starts", ["from its snapshot", "from the log"])
def test_strangers_stand_last_when_an_engine_starts(starts: str, url: str, opened: Any, tmp_path: Any) -> None:
    snapshot = str(tmp_path / "one.snapshot")
    with lastseen.open_engine(url, snapshot=snapshot) as one:
        live(one, 20)
        assert eventually(lambda: complete(url))
    before = count(url)
    with lastseen.open_engine(url, facts=False, prune=False) as silent:
        live(silent, 10)  # unpublished, so that a place that is too far shows
    for strange in STRANGERS.values():
        strange(url + FACTS)
    strangers = count(url) - before
    again = opened(url, snapshot=snapshot if starts == "from its snapshot" else None)
    assert eventually(lambda: complete(url))
    assert eventually(lambda: states_in(url) == live_in(again))
    assert again.health() == {}
    assert again._duties._publisher.refolded == 0
    published = count(url) - before - strangers
    due = sum(map(len, facts_due(url)))
    assert published <= due - before + 2 * PARTITIONS, "only the last fact of each partition comes twice"


def test_strangers_stand_last_when_a_partition_is_taken_over(url: str, opened: Any) -> None:
    one = opened(url)
    assert eventually(lambda: len(one.owned()) == PARTITIONS)
    two = opened(url)
    live(one, 20)
    assert eventually(lambda: complete(url))
    one._duties._publisher._owned = frozenset  # it falls silent without a word
    live(two, 10)
    for name in ("garbage", "transactions", "a near fact", "a far fact"):
        STRANGERS[name](url + FACTS)
    one.shutdown()
    assert eventually(lambda: len(two.owned()) == PARTITIONS)
    live(two, 10)
    assert eventually(lambda: complete(url))
    assert eventually(lambda: states_in(url) == live_in(two))
    assert two.health() == {}


def test_the_doctor_names_strangers(url: str) -> None:
    subject = Subject(url)
    with lastseen.open_engine(url) as one:
        live(one, 5)
        assert eventually(lambda: complete(url))
    assert [each for each in examine(subject, 0) if each.check == "facts"] == []
    everywhere(url + FACTS, b"no fact")
    (finding,) = [each for each in examine(subject, 0) if each.check == "facts"]
    assert finding.severity is Severity.WARNING
    assert f"{3 * PARTITIONS} of the newest {count(url)} records" in finding.says


def test_a_transaction_that_stays_open_delays_no_fact(url: str, opened: Any) -> None:
    with lastseen.open_engine(url) as one:
        live(one, 5)
        assert eventually(lambda: complete(url))
    with transaction(url + FACTS, OPEN, {number: [b"x"] for number in range(PARTITIONS)}):
        again = opened(url)
        live(again, 5)

        def published() -> bool:
            ends = [offset for offset, _, _ in (each[-1] for each in facts_due(url) if each)]
            places = [again._state.outbox.published[number] for number in range(PARTITIONS)]
            return all(place > end for place, end in zip(places, ends, strict=True))

        assert eventually(published)
        assert again.health() == {}
    assert eventually(lambda: complete(url))


def newest_states(url: str) -> dict[str, Any]:
    """The newest state of each key, of a topic in which some batches cannot be read."""
    log = open_kafka(url)
    fact_publisher = log.open_fact_publisher()
    states: dict[str, Any] = {}
    try:
        for number in range(PARTITIONS):
            fact_publisher.mark_foreign(number)
            newest: dict[str, bytes | None] = {}
            for page in fact_publisher.written_by_others(number):
                newest |= {record.key: record.value for record in page if record.key is not None}
            states |= {key: json.loads(value)["data"] for key, value in newest.items() if value is not None}
        return states
    except (ValueError, TypeError, LookupError):
        return {}
    finally:
        fact_publisher.close()
        log.close()


def test_strangers_write_states(url: str, opened: Any) -> None:
    with lastseen.open_engine(url) as one:
        live(one, 20)
        assert eventually(lambda: newest_states(url) == live_in(one))
        for number in range(PARTITIONS):
            write_foreign(url + STATE, [(b"unowned", b'{"data":{}}'), (b"\xff", b"x")], number)
        for strange in ANYWHERE.values():
            strange(url + STATE)
        live(one, 5)
        assert eventually(lambda: newest_states(url) == live_in(one)), "an owner finds them while it publishes"
        everywhere(url + FACTS, b"no fact")
        assert eventually(lambda: one.strangers().get("facts", 0) == 3 * PARTITIONS)
        assert one.strangers()["state"] > 3 * PARTITIONS
        assert one.health() == {}
    for strange in ANYWHERE.values():
        strange(url + STATE)
    again = opened(url)
    live(again, 5)
    assert eventually(lambda: newest_states(url) == live_in(again)), "an owner finds them when it takes over"
    assert again.health() == {}

"""Foreign producers on the real broker: each fault is found, with its source, by `producers check`, the metrics and the
doctor."""

from __future__ import annotations

import gzip
import json
import threading
import uuid
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka_fixtures import SharedBroker
from kafka_topics import eventually, new_url
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.doctor.examine import opened_log
from lastseen.doctor.producers import producer_findings
from lastseen.engine.clock import SystemClock, iso_from_ms
from lastseen.engine.codec import envelope
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.partitioner import partition_of
from tests.kafka.raw_batches import batch_of, body_of, produce
from tests.patience import PATIENCE_S

PARTITIONS = 3
GZIP = 1


def touched(source: str, key: str, kind: str = "touched", late_ms: int = 0) -> bytes:
    time = iso_from_ms(SystemClock().now_ms() - late_ms)
    name = f"lastseen.session.{kind}.v1"
    return envelope(name, uuid.uuid4().hex, source, key, time, {"session_id": "s" * 22})


def send(url: str, sent: list[tuple[str, bytes]], **settings: Any) -> None:
    """Produce with librdkafka, and wait until the broker has all."""
    kafka_url = parse_kafka_url(url)
    producer = Producer(
        {"bootstrap.servers": kafka_url.servers[0]} | {name.replace("_", "."): each for name, each in settings.items()}
    )
    is_transactional = "transactional_id" in settings
    if is_transactional:
        producer.init_transactions(PATIENCE_S)
        producer.begin_transaction()
    for key, value in sent:
        producer.produce(kafka_url.topic, value, key)
    assert producer.flush(PATIENCE_S) == 0
    if is_transactional:
        producer.commit_transaction(PATIENCE_S)


def test_each_foreign_producer_is_named_with_its_fault(kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address, PARTITIONS)
    keys = [f"key-{number}" for number in range(40)]
    send(url, [(key, touched("/right", key)) for key in keys], partitioner="murmur2_random")
    send(url, [(key, touched("/default", key)) for key in keys])
    send(
        url, [(key, touched("/sink", key)) for key in keys], partitioner="murmur2_random",
        transactional_id=uuid.uuid4().hex,
    )  # fmt: skip
    send(url, [("ana", touched("/shop", "ana", "ordered"))], partitioner="murmur2_random")
    send(url, [("ana", touched("/late", "ana", late_ms=3_600_000))], partitioner="murmur2_random")
    send(url, [("ana", b"rubbish")], partitioner="murmur2_random")
    body = gzip.compress(body_of([("ana", b"1"), ("ana", b"2")])) + b"more"
    assert produce(url, batch_of(body, 2, GZIP))[0] == 0, "the broker does not look behind the records"

    result = CliRunner().invoke(app, ["producers", "check", "--log", url, "-o", "json"])

    assert result.exit_code == 1, result.output
    faults = {
        each["source"]: {fault["fault"]: fault["records"] for fault in each["faults"]}
        for each in json.loads(result.stdout)["sources"]
    }
    astray = faults["/default"].pop("wrong_partition")
    assert 0 < astray < len(keys), "CRC-32 agrees with murmur2 now and then"
    markers = faults["unknown"].pop("control")
    assert 1 <= markers <= PARTITIONS
    assert faults == {
        "/lastseen/log": {}, "/right": {}, "/default": {}, "/sink": {"transactional": len(keys)},
        "/shop": {"unknown_type": 1}, "/late": {"clock_skew": 1}, "unknown": {"malformed": 1, "unreadable": 2},
    }  # fmt: skip


def test_sound_records_of_a_foreign_producer_are_no_finding(kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address, PARTITIONS)
    keys = [f"key-{number}" for number in range(40)]
    send(url, [(key, touched("/right", key)) for key in keys], partitioner="murmur2_random", compression_type="zstd")

    for more in ([], ["--since", "10m"], ["--records", "1"]):
        result = CliRunner().invoke(app, ["producers", "check", "--log", url, *more])
        assert result.exit_code == 0, result.output


@pytest.mark.thorough
def test_a_flood_on_one_partition_is_kept_up_with_and_its_source_is_named(kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address, PARTITIONS)
    flooded = partition_of("hot", PARTITIONS)
    stop = threading.Event()
    sent = [0]

    def flood() -> None:
        # All records of a batch have one log time, so that the flood is one on a busy machine, too.
        settings = {"bootstrap.servers": kafka_broker.address, "partitioner": "murmur2_random", "linger.ms": 1_000}
        producer, topic = Producer(settings), parse_kafka_url(url).topic
        while not stop.is_set():
            value = touched("/runaway", "hot")
            for _ in range(2_000):
                producer.produce(topic, value, "hot")
            assert producer.flush(PATIENCE_S) == 0
            sent[0] += 2_000

    def named() -> bool:
        with opened_log(url) as log:
            finding = {each.check: each for each in producer_findings(log, SystemClock().now_ms())}["flood"]
        return finding.says.startswith("/runaway wrote ") and f"of partition {flooded}, at" in finding.says

    with lastseen.open_engine(url, prune=False) as engine:
        session = engine.open("hot")
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            assert eventually(lambda: counts(engine).get("/runaway", 0) > 20_000), "the fold goes on during the flood"
            again = engine.touch("hot")
            assert (again.session_id, again.version) == (session.session_id, session.version + 1)
            assert eventually(named)
        finally:
            stop.set()
            thread.join()
        assert eventually(lambda: counts(engine)["/runaway"] == sent[0]), "every record of the flood was folded"
        voids = {each.source: each.void for each in engine.sources()}
        assert voids["/runaway"] == {"stale_session": sent[0]}
        assert not voids["/lastseen"]


def counts(engine: lastseen.Engine) -> dict[str, int]:
    return {each.source: each.records for each in engine.sources()}

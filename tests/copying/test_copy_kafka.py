"""Copies to Kafka and back: with the broker's own clock, with what other programs put there, and interrupted."""

from __future__ import annotations

import gzip
import uuid
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka_fixtures import SharedBroker
from stories import everything, story

import lastseen
from lastseen.bulk import resumable_writer
from lastseen.copying import copy
from lastseen.copying.copy import copy_between
from lastseen.engine.clock import SystemClock
from lastseen.engine.log import open_log
from lastseen.engine.log.kafka.new_log import write_genesis
from lastseen.engine.log.kafka.topic import NewTopics, create
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.replay.recording import SLICE
from lastseen.replay.replay import replay
from tests.patience import PATIENCE_S

LINES = 4_000


def topic(broker: SharedBroker, partitions: int) -> str:
    """The URL of a log whose topic has just been made."""
    url = f"kafka://{broker.address}/copy-{uuid.uuid4().hex}"
    create(parse_kafka_url(url), NewTopics(partitions))
    return url


@pytest.fixture
def chat(tmp_path: Path) -> str:
    """The URL of a log that holds the beginning of the recorded chat."""
    recording = tmp_path / "chat.jsonl"
    with gzip.open(SLICE) as lines:
        recording.write_bytes(b"".join(islice(lines, LINES)))
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    replay(recording, url, max_sessions=30, finish=True)
    return url


def values(url: str) -> list[bytes]:
    """The events of sessions that a log holds, in no order of partitions."""
    log = open_log(url, SystemClock())
    try:
        return sorted(each.value for each in everything(log) if each.value and b"lastseen.session" in each.value)
    finally:
        log.close()


def test_a_history_goes_to_kafka_and_comes_back(kafka_broker: SharedBroker, chat: str, tmp_path: Path) -> None:
    there, back = topic(kafka_broker, 4), f"sqlite:///{tmp_path / 'back.db'}"
    copied = copy_between(chat, there)
    assert (copied.partitions, copied.differences) == ((1, 4), [])
    assert copy_between(there, back + "?partitions=2").differences == []
    assert values(chat) == values(there) == values(back)


def test_interrupted_on_the_way_to_kafka_it_goes_on(
    kafka_broker: SharedBroker, chat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = topic(kafka_broker, 3)
    monkeypatch.setattr(resumable_writer, "BATCH_RECORDS", 100)
    monkeypatch.setattr(copy, "PROGRESS_EVERY", 10)

    def interrupt(done: int, total: int) -> None:
        if done > LINES // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_between(chat, there, progress=interrupt)
    copied = copy_between(chat, there)
    assert 0 < copied.found < copied.written
    assert copied.differences == []
    assert values(there) == values(chat)


def test_live_sessions_on_kafka_are_copied_with_the_brokers_times_and_foreign_records_stop_nothing(
    kafka_broker: SharedBroker, tmp_path: Path
) -> None:
    there, here = topic(kafka_broker, 3), f"sqlite:///{tmp_path / 'here.db'}"
    write_genesis(parse_kafka_url(there))
    with lastseen.open_engine(there, background=False) as engine:
        for number in range(20):
            engine.create(f"key{number}", attributes={"number": number})
            engine.touch(f"key{number}", message="hello")
        engine.close("key3")
    producer = Producer({"bootstrap.servers": kafka_broker.address, "acks": "all"})
    for key, value in ((None, b"{}"), (b"tombstone", None), (b"\xff\xfe", b"{}"), (b"key", b"rubbish")):
        producer.produce(parse_kafka_url(there).topic, value, key, 1)
    assert producer.flush(PATIENCE_S) == 0
    copied = copy_between(there, here + "?partitions=2")
    assert copied.differences == []
    assert copied.figures.copied == {"applied": 41, "malformed": 1}
    assert copied.figures.left_out == {"log_event": 3, "no_key": 2, "tombstone": 1}
    now_ms = SystemClock().now_ms()
    logs = [open_log(url, SystemClock()) for url in (there, here)]
    wanted, found = (story(log, now_ms) for log in logs)
    assert len(wanted["sessions"]) == 19
    assert found["sessions"] == wanted["sessions"]
    assert found["lives"] == wanted["lives"]
    for log in logs:
        log.close()

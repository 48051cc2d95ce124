"""Transactions on the log: their records and markers are void, and a transaction that stays open delays no reader."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer
from kafka_fixtures import SharedBroker
from kafka_topics import Open, eventually, message, new_topic, new_url, records

import lastseen
from lastseen.copying.copy import copy_between
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.port import Mark, Position
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome
from tests.kafka.published import checkpoints_of, live_in, refold
from tests.patience import EVENTUALLY_S, PATIENCE_S, paced_s

PARTITIONS = 3
COMMITTED, ABORTED, OPEN = "committed", "aborted", "open"


@contextmanager
def transaction(url: str, ends: str, values: dict[int, list[bytes]], key: bytes = b"ana") -> Iterator[None]:
    """A transaction that has written these values to partitions: ended when the block begins, or after it."""
    kafka_url = parse_kafka_url(url)
    producer = Producer(
        {"bootstrap.servers": kafka_url.servers[0], "transactional.id": f"{kafka_url.topic}-{ends}", "linger.ms": 50}
    )
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    for partition, each in values.items():
        for value in each:
            producer.produce(kafka_url.topic, value, key, partition)
    producer.flush(PATIENCE_S)
    if ends == COMMITTED:
        producer.commit_transaction(PATIENCE_S)
    elif ends == ABORTED:
        producer.abort_transaction(PATIENCE_S)
    yield
    if ends == OPEN:
        producer.abort_transaction(PATIENCE_S)


@pytest.mark.parametrize("ends", [COMMITTED, ABORTED, OPEN])
def test_a_transaction_is_read_as_marked_records(opened: Open, kafka_broker: SharedBroker, ends: str) -> None:
    url = new_topic(kafka_broker.address)
    log, follower = opened(url), opened(url)
    log.append([message("a")])
    assert [each.value for each in follower.read(0, 0, 10)] == [b"a"]
    with transaction(url, ends, {0: [b"1", b"2"]}):
        markers = 0 if ends == OPEN else 1
        assert eventually(lambda: log.end_offsets() == [3 + markers]), "the log's end, not that of what is committed"
        assert log.append([message("b")]) == [Position(0, 3 + markers)]
        assert follower.wait(Position(0, 3 + markers), PATIENCE_S)
        expected = [
            (0, "key-a", b"a", None), (1, "ana", b"1", Mark.TRANSACTIONAL), (2, "ana", b"2", Mark.TRANSACTIONAL),
            (3, None, None, Mark.CONTROL), (4, "key-b", b"b", None),
        ]  # fmt: skip
        if ends == OPEN:
            expected[3:] = [(3, "key-b", b"b", None)]
        for reader in (log, follower, opened(url)):
            for window in (1, 100):
                found = records(reader, window=window)
                assert [(each.offset, *each[3:]) for each in found] == expected
    assert eventually(lambda: log.end_offsets() == [5])


def test_transactions_stop_no_engine_and_delay_none(kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address, PARTITIONS)
    with lastseen.open_engine(url) as one, lastseen.open_engine(url) as two:
        ana = one.open("ana")
        number = one._views.partition_of("ana").number
        event = one._log.read(number, ana.position.offset, 1)[0].value
        assert event is not None
        everywhere = {partition: [event, b"rubbish", event] for partition in range(PARTITIONS)}
        with transaction(url, COMMITTED, everywhere), transaction(url, ABORTED, everywhere):
            pass
        with transaction(url, OPEN, everywhere):
            before_s = paced_s()
            for turn in range(20):
                one.touch("ana")
                assert eventually(lambda turn=turn: two.get("ana").version == ana.version + turn + 1)
                two.open(f"key-{turn}")
            assert paced_s() - before_s < EVENTUALLY_S, "an open transaction delays no caller"
            late = lastseen.open_engine(url, facts=False, prune=False)
            with late:
                assert late.get("ana").version == one.get("ana").version
        verdicts: list[tuple[int, Verdict]] = []

        def see(outcome: Outcome) -> None:
            if outcome.verdict is not Verdict.APPLIED:
                verdicts.append((outcome.record.partition, outcome.verdict))

        def all_markers() -> bool:
            verdicts.clear()
            refold(url, see)
            return verdicts.count((0, Verdict.CONTROL)) == 3

        assert eventually(all_markers)
        each = [Verdict.TRANSACTIONAL] * 9 + [Verdict.CONTROL] * 3
        assert sorted(verdicts) == sorted((partition, verdict) for partition in range(PARTITIONS) for verdict in each)
        for engine in (one, two):
            assert eventually(lambda engine=engine: engine.checkpoints() == checkpoints_of(refold(url)))
            assert engine.statistics()["void"] == {"transactional": 9 * PARTITIONS, "control": 3 * PARTITIONS}
            assert engine.health() == {}
        assert live_in(one) == live_in(two)


def test_a_log_with_transactions_is_copied_without_them(kafka_broker: SharedBroker) -> None:
    url, target = new_url(kafka_broker.address), new_topic(kafka_broker.address)
    with lastseen.open_engine(url, facts=False, prune=False) as engine:
        engine.open("ana")
        with transaction(url, COMMITTED, {0: [b"1", b"2"]}):
            engine.touch("ana")
        live = live_in(engine)
    copied = copy_between(url, target)
    assert copied.figures.left_out == {"transactional": 2, "control": 1, "log_event": 1}
    assert copied.differing == 0
    with lastseen.open_engine(target, facts=False, prune=False) as engine:
        assert live_in(engine).keys() == live.keys()

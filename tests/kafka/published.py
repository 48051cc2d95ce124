"""What a topic's log says, folded again, and what was published of it: facts and states as librdkafka finds them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, TopicPartition

import lastseen
from lastseen.engine.log.kafka.log import KafkaLog
from lastseen.engine.log.kafka.url import FACTS, STATE, parse_kafka_url
from lastseen.projections.facts import effect_of, facts_of, state_of
from lastseen.projections.partition import Outcome, Partition
from tests.kafka.kafka_topics import read_foreign
from tests.patience import PATIENCE_S

Named = list[list[tuple[int, int, str]]]
"""For each partition the place and the kind of every fact, in order."""


def everything_in(url: str, suffix: str) -> list[list[Any]]:
    """All that librdkafka finds in a topic beside the log, by partition."""
    kafka_url = parse_kafka_url(url)
    topic = kafka_url.topic + suffix
    consumer = Consumer({"bootstrap.servers": ",".join(kafka_url.servers), "group.id": "unused"})
    partitions = sorted(consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].partitions)
    ends = [
        consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=PATIENCE_S)[1] for number in partitions
    ]
    consumer.close()
    return [read_foreign(url + suffix, end, number) if end else [] for number, end in enumerate(ends)]


def facts_in(url: str) -> list[list[dict[str, Any]]]:
    """The facts by partition, in order, duplicates dropped: those whose place is not beyond the last."""
    found: list[list[dict[str, Any]]] = []
    for messages in everything_in(url, FACTS):
        facts: list[dict[str, Any]] = []
        last = (-1, -1)
        for message in messages:
            fact = json.loads(message.value())
            assert message.key().decode() == fact["subject"]
            place = fact["data"]["offset"], fact["data"]["k"]
            assert fact["id"] == f"{message.partition()}-{place[0]}-{place[1]}"
            if place > last:
                facts.append(fact)
                last = place
        found.append(facts)
    return found


def names(facts: list[list[dict[str, Any]]]) -> Named:
    """Place and kind of each fact."""
    return [[(f["data"]["offset"], f["data"]["k"], f["data"]["kind"]) for f in each] for each in facts]


def states_in(url: str) -> dict[str, Any]:
    """The newest state of each key: what is left when the topic is compacted, tombstones taken for what they are."""
    states: dict[str, Any] = {}
    for messages in everything_in(url, STATE):
        for message in messages:
            key = message.key().decode()
            if message.value() is None:
                states.pop(key, None)
            else:
                states[key] = json.loads(message.value())["data"]
    return states


def live_in(engine: lastseen.Engine) -> dict[str, Any]:
    """The live view, as the topic of states should have it."""
    with engine._views.lock:
        return states_of(engine._views.partitions)


def states_of(partitions: list[Partition]) -> dict[str, Any]:
    """The live sessions of partitions, as the topic of states should have them."""
    return {session.key: state_of(session) for partition in partitions for session in partition.by_id.values()}


def refold(url: str, see: Callable[[Outcome], None] = lambda _: None) -> list[Partition]:
    """What an observer apart from the engines makes of the log as it is now; `see` sees each outcome."""
    log = KafkaLog(parse_kafka_url(url))
    try:
        partitions = [Partition(number) for number in range(log.partitions)]
        for partition, end in zip(partitions, log.end_offsets(), strict=True):
            while partition.checkpoint < end:
                for record in log.read(partition.number, partition.checkpoint, 1_000):
                    see(partition.fold(record))
        return partitions
    finally:
        log.close()


def checkpoints_of(partitions: list[Partition]) -> dict[int, tuple[int, str]]:
    """What an engine that has folded so much says of its checkpoints."""
    return {partition.number: (partition.checkpoint, partition.digest.hex()) for partition in partitions}


def facts_due(url: str) -> Named:
    """The facts that the log gives rise to."""
    found: dict[int, list[tuple[int, int, str]]] = {}

    def see(outcome: Outcome) -> None:
        effect = effect_of(outcome)
        facts = [] if effect is None else facts_of(outcome.record.partition, effect)
        found.setdefault(outcome.record.partition, []).extend((f.id.offset, f.id.k, f.kind) for f in facts)

    return [found.get(partition.number, []) for partition in refold(url, see)]

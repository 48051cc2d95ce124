"""Facts are written in order, and nothing behind a gap: the newest in the topic says that all before it are there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from kafka import errors
from kafka_topics import Open, new_url

from lastseen.engine.errors import LogError
from lastseen.engine.log.kafka.facts_and_states import KafkaFactPublisher
from lastseen.engine.log.kafka.producer import Failed, OnOutcome, Producer
from lastseen.engine.log.port import Message
from lastseen.engine.log.shared_log import OutboundRecord
from tests.kafka.published import everything_in
from tests.kafka_fixtures import SharedBroker

FACTS = [OutboundRecord(f"key-{number}", b"%d " % number + b"x" * 700) for number in range(2_500)]
"""More than three batches."""
NEVER = -1


class LosesOne:
    """A producer one of whose batches is lost on the way, once that many have been written."""

    def __init__(self, real: Producer, written: int) -> None:
        self._real = real
        self._left = written

    def send_batch(self, partition: int, messages: Sequence[Message], created_s: float, on_outcome: OnOutcome) -> None:
        self._left -= 1
        if self._left == NEVER:
            on_outcome(Failed(errors.RequestTimedOutError("lost"), may_be_written=True, is_unusable=True))
        else:
            self._real.send_batch(partition, messages, created_s, on_outcome)

    def close(self) -> None:
        self._real.close()


@pytest.mark.parametrize("written", [0, 1, 2])
def test_behind_a_batch_that_was_lost_there_is_none(written: int, opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address)
    fact_publisher = opened(url).open_fact_publisher()
    try:
        assert isinstance(fact_publisher, KafkaFactPublisher)
        writer = fact_publisher._facts.writer
        connect = writer._connect
        loses = iter([written])
        writer._connect = lambda: LosesOne(connect(), next(loses, NEVER))
        with pytest.raises(LogError):
            fact_publisher.publish_facts(0, FACTS)
        writer._connect = connect
        there = [message.value() for message in everything_in(url, ".facts")[0]]
        assert there == [fact.value for fact in FACTS[: len(there)]], "a beginning, without gaps"
        assert bool(there) == bool(written)
        pages = fact_publisher.newest_facts(0)
        assert [record.value for page in pages for record in reversed(page)] == there[::-1]
        fact_publisher.publish_facts(0, FACTS[len(there) :])
        assert [message.value() for message in everything_in(url, ".facts")[0]] == [fact.value for fact in FACTS]
    finally:
        fact_publisher.close()

"""The reader of the states is renewed when it fails: one that knows the brokers from long ago would fail
permanently."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka_topics import Open, new_url

from lastseen.engine.errors import LogUnavailable
from lastseen.engine.log.kafka import facts_and_states
from lastseen.engine.log.kafka.facts_and_states import KafkaFactPublisher
from lastseen.engine.log.shared_log import OutboundRecord
from tests.kafka_fixtures import SharedBroker


@pytest.fixture
def fact_publisher(opened: Open, kafka_broker: SharedBroker) -> Iterator[Any]:
    fact_publisher = opened(new_url(kafka_broker.address)).open_fact_publisher()
    yield fact_publisher
    fact_publisher.close()


def fail(*_: object, **__: object) -> None:
    raise kafka_errors.KafkaTimeoutError("Failed to get offsets by timestamps")


def test_a_reader_that_cannot_find_the_leader_is_replaced(fact_publisher: KafkaFactPublisher) -> None:
    assert list(fact_publisher.written_by_others(0)) == []
    reader = fact_publisher._states._consumer
    assert reader is not None
    reader.end_offsets = fail
    with pytest.raises(LogUnavailable, match="Failed to get offsets"):
        list(fact_publisher.written_by_others(0))
    assert fact_publisher._states._consumer is None
    assert list(fact_publisher.written_by_others(0)) == [], "another one is asked"


def test_a_reader_that_cannot_read_is_replaced_and_nothing_is_passed_over(
    fact_publisher: KafkaFactPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    fact_publisher.publish_states(0, [OutboundRecord("key", b"state")])
    fact_publisher.mark_foreign(0)
    reader = fact_publisher._states._consumer
    assert reader is not None
    reader.poll = fail
    with pytest.raises(LogUnavailable):
        list(fact_publisher.written_by_others(0))
    monkeypatch.setattr(facts_and_states, "READ_TIMEOUT_S", -1.0)
    with pytest.raises(LogUnavailable, match="could not be read in time"):
        list(fact_publisher.written_by_others(0))
    monkeypatch.undo()
    assert fact_publisher._states._consumer is None
    found = [(record.key, record.value) for page in fact_publisher.written_by_others(0) for record in page]
    assert found == [("key", b"state")]

"""What the tests of the Kafka log share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kafka_topics import Open, open_kafka

from lastseen.engine.log.kafka.log import KafkaLog


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens logs, `opened(url, **settings)`, and closes them after the test, however it went."""
    logs: list[KafkaLog] = []

    def open_one(url: str, **settings: Any) -> KafkaLog:
        logs.append(open_kafka(url, **settings))
        return logs[-1]

    yield open_one
    for log in logs:
        log.close()

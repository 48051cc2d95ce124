"""The log contract, run by the Kafka adapter against a broker."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("log_contract")

from kafka_fixtures import SharedBroker  # noqa: E402
from log_contract import DurableLogContract, Make  # noqa: E402 - rewritten asserts tell what differs

from lastseen.engine.clock import Clock, ManualClock, SystemClock  # noqa: E402
from lastseen.engine.log import open_log  # noqa: E402
from lastseen.engine.log.kafka.topic import NewTopics, create  # noqa: E402
from lastseen.engine.log.kafka.url import parse_kafka_url  # noqa: E402


@pytest.mark.parametrize("partitions", [1, 3])
class TestKafkaLog(DurableLogContract):
    """`kafka://host:port/topic`: each place is a topic of its own on one broker."""

    @pytest.fixture
    def place(self, kafka_broker: SharedBroker, partitions: int) -> Callable[[], Make]:
        def new_place() -> Make:
            url = f"kafka://{kafka_broker.address}/contract-{uuid.uuid4().hex}"
            create(parse_kafka_url(url), NewTopics(partitions))
            return lambda clock: open_log(url, clock, partitions=partitions)

        return new_place

    def log_clock(self, _: ManualClock) -> Clock:
        """A broker gives its own times; it is on this machine."""
        return SystemClock()

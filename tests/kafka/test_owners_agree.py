"""A change of owners that was begun is taken to its end, whatever kafka-python makes of a poll that ran out of time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka_topics import eventually, new_url

import lastseen
from lastseen.engine.log.kafka import group
from tests.kafka_fixtures import SharedBroker


@pytest.mark.parametrize("rejoining", [True, False])
def test_a_member_that_is_joining_continues_to_join(rejoining: bool) -> None:
    asked: list[None] = []
    coordinator = SimpleNamespace(rejoining=rejoining, request_rejoin=lambda: asked.append(None))
    group.finish_rebalance(SimpleNamespace(_coordinator=coordinator))
    assert bool(asked) is rejoining


def test_it_is_looked_at_after_each_poll_and_kafka_python_has_what_is_asked_for(
    kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    finish_rebalance = group.finish_rebalance

    def look(consumer: object) -> None:
        coordinator = consumer._coordinator  # type: ignore[attr-defined]
        assert isinstance(coordinator, ConsumerCoordinator)
        seen.append(isinstance(coordinator.rejoining, bool) and callable(coordinator.request_rejoin))
        finish_rebalance(consumer)

    monkeypatch.setattr(group, "finish_rebalance", look)
    with lastseen.open_engine(new_url(kafka_broker.address, 4)) as engine:
        assert eventually(lambda: len(engine.owned()) == 4 and len(seen) > 3)
    assert all(seen)

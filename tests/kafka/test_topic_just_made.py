"""A topic that was made a moment ago, and that the broker which is asked does not know yet."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from kafka_topics import Open

from lastseen.engine.errors import LogUnavailable
from lastseen.engine.log.kafka import topic as kafka_topic
from lastseen.engine.log.kafka.topic import NewTopics, create
from lastseen.engine.log.kafka.url import parse_kafka_url
from tests.kafka_fixtures import SharedBroker


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often, by topic, a broker still says that it knows nothing."""
    left: dict[str, int] = {}
    look_up = kafka_topic._look_up

    def looked_up(admin: Any, kafka_url: Any, name: str) -> Any:
        left[name] = left.get(name, 0) - 1
        return None if left[name] >= 0 else look_up(admin, kafka_url, name)

    monkeypatch.setattr(kafka_topic, "_look_up", looked_up)
    return left


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often another broker, asked for a topic's settings, says that it knows nothing: the client tells none."""
    left: dict[str, int] = {}
    look_up = kafka_topic._look_up

    def looked_up(admin: Any, kafka_url: Any, name: str) -> Any:
        topic = look_up(admin, kafka_url, name)
        if topic is not None:
            left[name] = left.get(name, 0) - 1
        return topic._replace(settings={}) if topic is not None and left[name] >= 0 else topic

    monkeypatch.setattr(kafka_topic, "_look_up", looked_up)
    return left


def test_it_is_waited_for(kafka_broker: SharedBroker, late: dict[str, int], opened: Open) -> None:
    url = f"kafka://{kafka_broker.address}/late-{uuid.uuid4().hex}"
    topic = parse_kafka_url(url).topic
    late[topic] = 4  # once before it is made, and three times after
    assert [is_new for _, is_new in create(parse_kafka_url(url), NewTopics(2))] == [True, True, True]
    assert late[topic] < 0
    late[topic] = 3
    assert opened(url).partitions == 2


def test_its_settings_are_waited_for(
    kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch, unset: dict[str, int], opened: Open
) -> None:
    url = f"kafka://{kafka_broker.address}/late-{uuid.uuid4().hex}"
    topic = parse_kafka_url(url).topic
    unset[topic + ".state"] = 3
    assert [is_new for _, is_new in create(parse_kafka_url(url), NewTopics(2))] == [True, True, True]
    assert unset[topic + ".state"] < 0
    unset[topic] = 3
    assert opened(url).partitions == 2
    monkeypatch.setattr(kafka_topic, "KNOWN_AFTER_S", 0.2)
    unset[topic] = 10_000
    with pytest.raises(LogUnavailable, match="does not return the settings of topic"):
        create(parse_kafka_url(url), NewTopics(2))


def test_but_not_without_end(
    kafka_broker: SharedBroker, late: dict[str, int], monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    url = f"kafka://{kafka_broker.address}/late-{uuid.uuid4().hex}"
    monkeypatch.setattr(kafka_topic, "KNOWN_AFTER_S", 0.2)
    late[parse_kafka_url(url).topic] = 10_000
    with pytest.raises(LogUnavailable, match="does not list it"):
        create(parse_kafka_url(url), NewTopics(2))
    with pytest.raises(LogUnavailable, match="the topic does not exist"):
        opened(url)

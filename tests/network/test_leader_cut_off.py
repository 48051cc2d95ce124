"""Of three brokers the one that leads is cut off from its peers, together with an engine; and two of three are gone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import Consumer, KafkaException
from scene import ANSWERED_WITHIN_S, READ_WITHIN_S, Scene, begin_afresh

from lastseen.engine.log.kafka.url import parse_kafka_url
from tests.kafka.kafka_topics import eventually
from tests.network.brokers import Brokers
from tests.network.network import Network
from tests.patience import paced_s

pytestmark = pytest.mark.thorough

BROKERS = ("first", "second", "third")
GOES_ON_WITHIN_S = 40.0
_logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Three brokers, two engines, and an observer."""
    network = Network([*BROKERS, "one", "two", "watch"], seed=2026)
    yield network
    network.close()


@pytest.fixture(scope="module")
def broker(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """The brokers, as one cluster."""
    brokers = Brokers(network, BROKERS, tmp_path_factory.mktemp("brokers"))
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.kill()


def leader_of(scene: Scene, broker: Brokers, asked: Sequence[str] = BROKERS) -> str:
    """The machine of the broker that leads the first partition, as some of them say; `none` if they do not know."""
    addresses = dict(zip(BROKERS, broker.address.split(","), strict=True))
    servers, topic = ",".join(addresses[name] for name in asked), parse_kafka_url(scene.url).topic
    with scene.network["watch"].inside():
        consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused"})
        try:
            leader = consumer.list_topics(topic, timeout=2).topics[topic].partitions[0].leader
        except KafkaException:
            return "none"
        finally:
            consumer.close()
    return BROKERS[leader - 1] if leader > 0 else "none"


def test_a_leader_that_is_cut_off_acknowledges_nothing_that_is_lost(scene: Scene, broker: Brokers) -> None:
    before = begin_afresh(scene.one)
    leader = leader_of(scene, broker)
    others = [name for name in BROKERS if name != leader]
    scene.network.separate([leader, "one"], [*others, "two", "watch"])
    assert eventually(lambda: leader_of(scene, broker, others) in others, GOES_ON_WITHIN_S), "another leads"
    elected_s = scene.goes_on(scene.two, GOES_ON_WITHIN_S)
    report = scene.one.ask()
    assert report.surprises == []
    assert set(report.failed) & {"OutcomeUnknown", "LogUnavailable"}, "a leader alone acknowledges nothing"
    assert report.slowest_write_s < ANSWERED_WITHIN_S
    assert report.slowest_read_s < READ_WITHIN_S
    assert report.reads > before.reads, "reads go on from the view"
    scene.network.restore()
    resumed_s = scene.goes_on(scene.one)
    failed = scene.check()
    _logger.info("leader cut off: others go on %.1f s, it %.1f s later; %s", elected_s, resumed_s, dict(failed))


def test_with_two_of_three_brokers_gone_writes_are_refused_and_reads_go_on(scene: Scene, broker: Brokers) -> None:
    for engine in scene.engines:
        begin_afresh(engine)
    killed = broker.cluster.nodes[1:]
    for node in killed:
        node.kill()
    gone_s = paced_s()
    assert eventually(lambda: all(each.ask().failed.total() > 3 for each in scene.engines), GOES_ON_WITHIN_S)
    quiet = [len(engine.ask().acknowledged) for engine in scene.engines]
    for engine in scene.engines:
        report = engine.ask()
        assert report.surprises == []
        assert set(report.failed) & {"OutcomeUnknown", "LogUnavailable"}
        assert report.slowest_write_s < ANSWERED_WITHIN_S
        assert report.slowest_read_s < READ_WITHIN_S
    assert quiet == [len(engine.ask().acknowledged) for engine in scene.engines], "too few copies: not acknowledged"
    broker.start()
    back_s = paced_s()
    resumed_s = max(scene.goes_on(engine, GOES_ON_WITHIN_S) for engine in scene.engines)
    failed = scene.check()
    _logger.info("two of three gone for %.1f s: resumed %.1f s after; %s", back_s - gone_s, resumed_s, dict(failed))

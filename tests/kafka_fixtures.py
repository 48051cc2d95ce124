"""Real Kafka brokers for tests: one that all share, and as many as a test wants to break.

Nothing is started before a test asks, and nothing outlives pytest, not even when it is killed. Where Kafka cannot be
run, a test which asks for it fails and says what to install.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from infra.kafka.access import Access
from infra.kafka.choice import choose, running_elsewhere
from infra.kafka.cluster import Cluster
from infra.kafka.node import Node


class SharedBroker(NamedTuple):
    """A broker that all tests of the session use at once: make topics of your own on it, and leave it alone."""

    address: str


OwnBroker = Callable[..., Node]
OwnCluster = Callable[..., Cluster]


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedBroker]:
    """One broker for the whole session: the one that LASTSEEN_TEST_KAFKA names, or one started for it."""
    elsewhere = running_elsewhere()
    if elsewhere:
        yield SharedBroker(elsewhere)
        return
    cluster = Cluster(choose(), tmp_path_factory.mktemp("kafka"), 1)
    cluster.start()
    yield SharedBroker(cluster.address)
    cluster.kill()


@pytest.fixture
def own_kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    """Starts clusters of the test's own: `own_kafka_cluster(size=3, access=None, settings=None)`; killed after it."""
    clusters: list[Cluster] = []

    def start(size: int = 3, access: Access | None = None, **settings: object) -> Cluster:
        cluster = Cluster(choose(), tmp_path_factory.mktemp("kafka"), size, access=access, **settings)
        clusters.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in clusters:
        cluster.kill()


@pytest.fixture
def own_kafka_broker(own_kafka_cluster: OwnCluster) -> OwnBroker:
    """Starts single brokers of the test's own: `own_kafka_broker(access=None, settings=None)`; killed after it."""
    return lambda **how: own_kafka_cluster(1, **how).nodes[0]

"""Real Kafka brokers for tests: one that all share, and as many as a test wants to break.

Nothing is started before a test asks, and nothing outlives pytest, not even when it is killed. Where Kafka cannot be
run, a test which asks for it fails and says what to install.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.kafka.access import Access
from infra.kafka.choice import choose, running_elsewhere
from infra.kafka.cluster import Cluster
from infra.kafka.node import Node
from tests.shared_by_run import shared_by_run


class SharedBroker(NamedTuple):
    """A broker that all tests of the session use at once: make topics of your own on it, and leave it alone."""

    address: str


OwnBroker = Callable[..., Node]
OwnCluster = Callable[..., Cluster]


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedBroker]:
    """One broker for the whole run, however many processes it has: LASTSEEN_TEST_KAFKA's, or one started for it."""
    elsewhere = running_elsewhere()
    if elsewhere:
        yield SharedBroker(elsewhere)
        return
    own = tmp_path_factory.getbasetemp()
    # Each process of the run has a folder of its own, and all of them are in the run's.
    with shared_by_run(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own, start_broker) as address:
        yield SharedBroker(address)


@contextmanager
def start_broker(folder: Path) -> Iterator[str]:
    """A broker with its records in the folder; killed at the end."""
    cluster = Cluster(choose(), folder, 1)
    cluster.start()
    try:
        yield cluster.address
    finally:
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

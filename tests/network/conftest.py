"""The network that the tests cut, and what is left of a test on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scene import Scene

from tests.network.brokers import Brokers
from tests.network.network import Network

MACHINES = ("broker", "one", "two", "watch")


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Four machines: a broker, two engines, and an observer of the log."""
    network = Network(MACHINES, seed=2026)
    yield network
    network.close()


@pytest.fixture(scope="module")
def broker(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """A broker on the first of them."""
    brokers = Brokers(network, ["broker"], tmp_path_factory.mktemp("broker"))
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.kill()


@pytest.fixture
def scene(network: Network, broker: Brokers) -> Iterator[Scene]:
    """Two engines at work on a topic of their own; the ways are whole before and after."""
    network.restore()
    scene = Scene(network, broker.address)
    try:
        scene.begin()
        yield scene
    finally:
        network.restore()
        scene.end()

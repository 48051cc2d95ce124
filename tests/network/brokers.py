"""Real brokers on machines of a network, each by the address that the other machines know it by."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.kafka.choice import NoKafka, choose
from infra.kafka.cluster import Cluster
from infra.kafka.jars import FOLDER, fetch_jars
from infra.kafka.java import OLDEST_JAVA, Java, find_java
from infra.kafka.node import Node, NodeLocation
from tests.network.network import Network


@dataclass(frozen=True)
class JavaOnMachines(Java):
    """Java on this machine, for nodes that believe themselves on others."""

    addresses: Mapping[int, str]

    def location(self, node: Node) -> NodeLocation:
        """In the node's own folder, at its machine's address."""
        return NodeLocation(str(node.folder), "0.0.0.0", self.addresses[node.node_id])


class Brokers:
    """A cluster whose nodes are on machines of a network."""

    def __init__(self, network: Network, names: Sequence[str], folder: Path, **settings: str) -> None:
        """A cluster with a node on each of the machines named, yet to be started. Raises NoKafka."""
        self._machines = [network[name] for name in names]
        addresses = {number: machine.address for number, machine in enumerate(self._machines, start=1)}
        java = java_here()
        self.cluster = Cluster(JavaOnMachines(java.program, java.jars, addresses), folder, len(names))
        for node in self.cluster.nodes:
            # The advertised address is loopback: here clients are on other machines.
            published = node.settings["advertised.listeners"].replace("127.0.0.1", addresses[node.node_id])
            node.settings = {**node.settings, "advertised.listeners": published, **settings}
        self.address = ",".join(f"{addresses[node.node_id]}:{node.ports.clients}" for node in self.cluster.nodes)

    def start(self) -> None:
        """Start the nodes that do not run, and wait until each knows of all. Raises BrokerFailed."""
        together = list(zip(self._machines, self.cluster.nodes, strict=True))
        for machine, node in together:
            if node.pid is None:
                with machine.inside():
                    node.begin()
        for machine, node in together:
            with machine.inside():
                node.wait_until_ready(len(together))

    def kill(self) -> None:
        """Kill every node."""
        self.cluster.kill()


def java_here() -> Java:
    """Java with Kafka's jars; a container engine would put its containers into namespaces of its own."""
    found = choose()
    if isinstance(found, Java):
        return found
    program, maven = find_java(), shutil.which("mvn")
    if program is None or maven is None:
        raise NoKafka(
            f"brokers in network namespaces need Java {OLDEST_JAVA} or newer and Maven, beside the container engine.\n"
            "  On Debian and Ubuntu: sudo apt-get install openjdk-17-jre-headless maven"
        )
    return Java(program, fetch_jars(maven, FOLDER))

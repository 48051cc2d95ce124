"""Kafka brokers that belong together: one, for everyday work, or three, to see what a failure does."""

from __future__ import annotations

import base64
import random
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path

from infra.kafka.access import Access
from infra.kafka.node import READY_WITHIN_S, Launcher, Node, Ports
from infra.kafka.properties import server_properties

# Below the range that systems take ports from for outgoing connections: a client that tries again while its broker is
# away could otherwise be given the broker's own port.
_PORTS = range(15_000, 30_000)


class Cluster:
    """Nodes that know each other. Each can be stopped, killed and started by itself."""

    def __init__(
        self,
        launcher: Launcher,
        folder: Path,
        size: int,
        *,
        first_port: int | None = None,
        access: Access | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """A cluster that is yet to be started, its nodes in `folder`/1, `folder`/2, ...

        With `first_port` the nodes serve clients on that port and the following ones; all other ports are any free
        ones. `access` adds a second listener to every node; `settings` go to every node's `server.properties`.
        """
        folder = folder.resolve()
        cluster_id = _cluster_id(folder)
        drawn = iter(free_ports(4 * size))
        self.nodes = []
        for node_id in range(1, size + 1):
            ports = Ports(next(drawn), next(drawn), next(drawn), next(drawn))
            if first_port is not None:
                ports = ports._replace(clients=first_port + node_id - 1)
            self.nodes.append(Node(launcher, folder / str(node_id), ports, cluster_id, node_id, access))
        for node in self.nodes:
            node.settings = server_properties(node, self.nodes, settings or {})

    @property
    def address(self) -> str:
        """The addresses of all nodes, separated by commas, as clients take them."""
        return ",".join(node.address for node in self.nodes)

    def start(self, within_s: float = READY_WITHIN_S) -> None:
        """Start the nodes that do not run, and wait until every node knows of all. Raises BrokerFailed."""
        try:
            for node in self.nodes:
                if not node.pid:
                    node.begin()
            for node in self.nodes:
                node.wait_until_ready(len(self.nodes), within_s)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop every node that runs, all at once: a broker takes leave of the controllers, so the last to go cannot."""
        for node in self.nodes:
            node.ask_to_stop()
        for node in self.nodes:
            node.wait_until_stopped()

    def kill(self) -> None:
        """Kill every node that runs."""
        for node in self.nodes:
            node.kill()


def start_broker(
    launcher: Launcher,
    folder: Path,
    *,
    port: int | None = None,
    access: Access | None = None,
    settings: Mapping[str, str] | None = None,
) -> Node:
    """One broker, started, on its own. Its records stay in `folder`."""
    cluster = Cluster(launcher, folder, 1, first_port=port, access=access, settings=settings)
    cluster.start()
    return cluster.nodes[0]


def free_ports(count: int) -> list[int]:
    """So many free ports of this machine."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"{count} free ports are needed between {_PORTS.start} and {_PORTS.stop}; there are {len(found)}")


def is_free(port: int) -> bool:
    """Whether a loopback port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _cluster_id(folder: Path) -> str:
    """The name that the folder's storage was formatted with, or a new one."""
    file = folder / "cluster-id"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="), encoding="ascii")
    return file.read_text(encoding="ascii")

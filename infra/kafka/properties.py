"""What a node's `server.properties` says: small, quick to start, quick to notice a death, and never helpful unasked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.kafka.node import RECORDS, Node, NodeLocation


def server_properties(node: Node, nodes: Sequence[Node], more: Mapping[str, str]) -> dict[str, str]:
    """The settings of one node among `nodes`; `more` is added and wins."""
    locations = {each.node_id: each.launcher.location(each) for each in nodes}
    voters = ",".join(f"{each.node_id}@{locations[each.node_id].host}:{each.ports.controller}" for each in nodes)
    copies, in_sync = str(min(3, len(nodes))), str(min(2, len(nodes)))
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.node_id),
        "controller.quorum.voters": voters,
        "log.dirs": f"{locations[node.node_id].folder}/{RECORDS}",
        **_listeners(node, locations[node.node_id]),
        # Nothing appears by accident: a misspelt topic is an error.
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # Small and quick.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "2",
        "log.cleaner.dedupe.buffer.size": str(8 << 20),
        # A death is noticed within seconds. A node alone waits as long for its own earlier self after a kill; among
        # three on a busy machine, too short a wait would take a slow one for dead.
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "2000" if len(nodes) == 1 else "4000",
        "controller.quorum.fetch.timeout.ms": "1000",
        "controller.quorum.election.timeout.ms": "500",
        "controller.quorum.election.backoff.max.ms": "500",
        **more,
    }


def _listeners(node: Node, location: NodeLocation) -> dict[str, str]:
    """Loopback for clients, whatever the node listens on; its peers reach it by its name among them."""
    ports = {"CLIENTS": node.ports.clients, "PEERS": node.ports.peers}
    protocols = {"CLIENTS": "PLAINTEXT", "PEERS": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    if node.access:
        ports["SECURED"] = node.ports.secured
        protocols["SECURED"] = node.access.protocol()
    hosts = dict.fromkeys(ports, "127.0.0.1") | {"PEERS": location.host}
    listening = {**ports, "CONTROLLER": node.ports.controller}
    return {
        "listeners": ",".join(f"{name}://{location.listen}:{port}" for name, port in listening.items()),
        "advertised.listeners": ",".join(f"{name}://{hosts[name]}:{port}" for name, port in ports.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "inter.broker.listener.name": "PEERS",
        "controller.listener.names": "CONTROLLER",
        **(node.access.settings(location.folder) if node.access else {}),
    }

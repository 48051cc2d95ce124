"""One Kafka broker, its own controller or one of three: a folder, a few ports, and a process that comes and goes."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from infra.kafka import wire
from infra.kafka.access import Access, Certificate
from infra.kafka.guard import Guarded

READY_WITHIN_S = 90
STOPPED_WITHIN_S = 30
RECORDS = "records"
_ASK_EVERY_S = 0.02
_LOG_SETTINGS = Path(__file__).with_name("log4j2.properties")


class Ports(NamedTuple):
    """The ports of one node, on loopback: for clients, for clients that must prove who they are, for its peers."""

    clients: int
    secured: int
    peers: int
    controller: int


class NodeLocation(NamedTuple):
    """Where a node runs, as the node itself sees it: its folder, what it listens on, its name among its peers."""

    folder: str
    listen: str
    host: str


class Launcher(Protocol):
    """What can run Kafka's programs: Java, or a container engine."""

    def describe(self) -> str:
        """What it is, for people."""

    def location(self, node: Node) -> NodeLocation:
        """Where this launcher makes a node run."""

    def command(self, node: Node, program: str, *arguments: str) -> list[str]:
        """The command that runs `kafka.Kafka` or `kafka.tools.StorageTool` for a node."""

    def removal(self, node: Node) -> list[str] | None:
        """The command that kills a node which is not simply the child process; None where it is."""


class BrokerFailed(Exception):
    """A broker did not start, or ended by itself; the message has the last lines of its output."""


class Node:
    """A broker and controller. Its records outlive it: `kill` or `stop`, then `start`, on the same folder and ports.

    `address` is for any client on this machine; `secured_address` is for those that the node's `access` lets in.
    """

    def __init__(
        self,
        launcher: Launcher,
        folder: Path,
        ports: Ports,
        cluster: str,
        node_id: int = 1,
        access: Access | None = None,
    ) -> None:
        """A node that is yet to be started. `cluster` names the cluster, 22 characters of base 64."""
        self.launcher, self.folder, self.ports, self.cluster, self.node_id = launcher, folder, ports, cluster, node_id
        self.access = access
        self.settings: Mapping[str, str] = {}
        self.output = folder / "output.log"
        self._process: Guarded | None = None

    @property
    def address(self) -> str:
        """`host:port`, without encryption or authentication."""
        return f"127.0.0.1:{self.ports.clients}"

    @property
    def secured_address(self) -> str:
        """`host:port` of the listener that the node's `access` describes."""
        if self.access is None:
            raise ValueError(f"node {self.node_id} was made without access rules; it has only {self.address}")
        return f"127.0.0.1:{self.ports.secured}"

    @property
    def pid(self) -> int | None:
        """The broker's process id (a container's client's, if it is one); None when it does not run."""
        return self._process.pid if self._process and self._process.is_running() else None

    def start(self) -> None:
        """Start the node and wait until it serves. Raises BrokerFailed."""
        self.begin()
        self.wait_until_ready()

    def restart(self) -> None:
        """Stop the node, if it runs, and start it again."""
        self.stop()
        self.start()

    def begin(self) -> None:
        """Format the storage if it is new, and start the process, without waiting until it serves."""
        if self.pid:
            raise ValueError(f"node {self.node_id} at {self.address} is running")
        folder = self.launcher.location(self).folder
        self._write_files()
        if not (self.folder / RECORDS / "meta.properties").exists():  # Formatting writes this file last.
            arguments = ["format", f"--cluster-id={self.cluster}", "--config", f"{folder}/server.properties"]
            arguments += self.access.format_arguments() if self.access else []
            self._format(self.launcher.command(self, "kafka.tools.StorageTool", *arguments))
        command = self.launcher.command(self, "kafka.Kafka", f"{folder}/server.properties")
        self._process = Guarded(command, self.output, orphaned=self.launcher.removal(self))

    def _write_files(self) -> None:
        (self.folder / RECORDS).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_LOG_SETTINGS, self.folder / _LOG_SETTINGS.name)
        if self.access and self.access.certificate:
            shutil.copyfile(self.access.certificate.keystore, self.folder / Certificate.KEYSTORE)
        lines = [f"{name}={value}\n" for name, value in self.settings.items()]
        (self.folder / "server.properties").write_text("".join(lines), encoding="utf-8")

    def _format(self, command: list[str]) -> None:
        with self.output.open("ab") as sink:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, check=False)
        if done.returncode:
            raise BrokerFailed(f"node {self.node_id} could not format its storage:\n{self.last_output()}")

    def wait_until_ready(self, cluster_size: int = 1, within_s: float = READY_WITHIN_S) -> None:
        """Wait until the node answers and knows of so many brokers, itself among them."""
        deadline_s = time.monotonic() + within_s
        while True:
            with contextlib.suppress(OSError):
                known = wire.brokers(self.address)
                if len(known) >= cluster_size and self.node_id in {each.node_id for each in known}:
                    return
            if not self.pid:
                raise BrokerFailed(f"node {self.node_id} at {self.address} ended by itself:\n{self.last_output()}")
            if time.monotonic() > deadline_s:
                raise BrokerFailed(
                    f"node {self.node_id} at {self.address} was not ready in {within_s:.0f} s:\n{self.last_output()}"
                )
            time.sleep(_ASK_EVERY_S)

    def stop(self) -> int | None:
        """Ask the node to end and wait until it has; its exit code (143 is a clean end), None if it did not run."""
        self.ask_to_stop()
        return self.wait_until_stopped()

    def ask_to_stop(self) -> None:
        """Send the node SIGTERM, if it runs, without waiting for its end."""
        if self._process:
            self._process.signal(signal.SIGTERM)

    def wait_until_stopped(self, within_s: float = STOPPED_WITHIN_S) -> int | None:
        """Wait until a node that was asked to stop has ended; its exit code. Raises BrokerFailed, and kills it."""
        if self._process is None:
            return None
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed(
                f"node {self.node_id} had not ended {within_s:.0f} s after SIGTERM; killed:\n{self.last_output()}"
            ) from None
        self._process = None
        self._remove()
        return code

    def kill(self) -> None:
        """End the node with SIGKILL, without a chance to write anything, and wait until it is gone."""
        if self._process is None:
            return
        self._remove()
        self._process.signal(signal.SIGKILL)
        self._process.wait(STOPPED_WITHIN_S)
        self._process = None

    def _remove(self) -> None:
        removal = self.launcher.removal(self)
        if removal:
            subprocess.run(removal, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def last_output(self, lines: int = 20) -> str:
        """The end of what the broker has written on its output."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.output.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        return "(it wrote nothing)"

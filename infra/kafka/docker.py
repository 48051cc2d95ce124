"""Runs Kafka in containers, from the official image of the version that the pom names.

A node's folder is mounted into its container, so its records stay where Java would have left them, and a container
lasts for one run of the broker. The ports for clients are published on loopback; peers meet on a network of their own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass

from infra.kafka.jars import kafka_version, say
from infra.kafka.java import java_arguments
from infra.kafka.node import Node, NodeLocation

_MOUNTED_AT = "/node"
_JARS_IN_IMAGE = "/opt/kafka/libs"
_ANSWERS_WITHIN_S = 15
_PULLED_WITHIN_S = 900

# What an earlier container of the same name left behind is removed first; the network may well be there already.
_RUN = '"$1" rm --force "$2" >/dev/null 2>&1; "$1" network create "$3" >/dev/null 2>&1; shift 3; exec "$@"'
# The network goes with the last node: until then the engine refuses.
_REMOVE = '"$1" rm --force "$2"; "$1" network rm "$3"'


@dataclass(frozen=True)
class Docker:
    """A container engine that answers, by its command-line program."""

    program: str

    def describe(self) -> str:
        """What it is, for people."""
        return f"containers of {image()} ({self.program})"

    def location(self, node: Node) -> NodeLocation:
        """Behind published ports, in the mounted folder."""
        return NodeLocation(folder=_MOUNTED_AT, listen="0.0.0.0", host=_container(node))

    def command(self, node: Node, program: str, *arguments: str) -> list[str]:
        """The command that runs one of Kafka's programs in a container of its own."""
        ports = [node.ports.clients, *([node.ports.secured] if node.access else [])]
        run = [self.program, "run", "--rm", "--name", _container(node), "--network", _network(node)]
        run += ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{node.folder}:{_MOUNTED_AT}"]
        run += [part for port in ports for part in ("--publish", f"127.0.0.1:{port}:{port}")]
        run += ["--entrypoint", "java", image(), *java_arguments(_JARS_IN_IMAGE, _MOUNTED_AT), program, *arguments]
        return ["sh", "-c", _RUN, "sh", self.program, _container(node), _network(node), *run]

    def removal(self, node: Node) -> list[str]:
        """The command that ends a container at once; the child process is only the program that watches it."""
        return ["sh", "-c", _REMOVE, "sh", self.program, _container(node), _network(node)]


def image() -> str:
    """The image's name and version."""
    return f"apache/kafka:{kafka_version()}"


def find_docker() -> Docker | None:
    """An engine that answers and has the image, or can get it; None, saying why unless there is nothing at all."""
    program = shutil.which("docker")
    if not program or not _succeeds(_ANSWERS_WITHIN_S, program, "version", "--format", "{{.Server.Version}}"):
        return None
    if not _succeeds(_ANSWERS_WITHIN_S, program, "image", "inspect", image()):
        say(f"pulling {image()}, once")
        if not _succeeds(_PULLED_WITHIN_S, program, "pull", "--quiet", image()):
            say(f"a container engine answers, but {image()} could not be pulled; going on without it")
            return None
    return Docker(program)


def _succeeds(within_s: float, *command: str) -> bool:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=within_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _network(node: Node) -> str:
    return "lastseen-" + hashlib.sha256(str(node.folder.parent).encode()).hexdigest()[:12]


def _container(node: Node) -> str:
    return f"{_network(node)}-{node.node_id}"

"""Runs Kafka on this machine's Java, from the jars that Maven has fetched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from infra.kafka.node import Node, NodeLocation

OLDEST_JAVA = 17
ARCHIVE = "kafka.jsa"
"""Beside the jars; made by `infra.kafka.classes`."""
# One collector thread and the first compiler only: brokers of tests live for seconds, and share few processors.
_OPTIONS = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")


@dataclass(frozen=True)
class Java:
    """A Java that is new enough, and the folder with Kafka's jars."""

    program: str
    jars: Path
    options: tuple[str, ...] = field(default=(), kw_only=True)
    """Further arguments of Java."""

    def describe(self) -> str:
        """What it is, for people."""
        return f"Java ({self.program})"

    def location(self, node: Node) -> NodeLocation:
        """On loopback, in the node's own folder."""
        return NodeLocation(folder=str(node.folder), listen="127.0.0.1", host="127.0.0.1")

    def command(self, node: Node, program: str, *arguments: str) -> list[str]:
        """The command that runs one of Kafka's programs."""
        arguments_of_java = [*self.options, *self._archived(), *java_arguments(str(self.jars), str(node.folder))]
        return [self.program, *arguments_of_java, program, *arguments]

    def _archived(self) -> list[str]:
        """Where classes are found that were read before. Nothing is said of an archive that is passed over."""
        archive = self.jars / ARCHIVE
        if not archive.exists():
            return []
        return [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]

    def removal(self, node: Node) -> None:
        """Nothing: a node is the child process itself."""


def java_arguments(jars: str, folder: str) -> list[str]:
    """Java's arguments before the name of the program: its size, its log settings, its class path."""
    return [*_OPTIONS, f"-Dlog4j2.configurationFile={folder}/log4j2.properties", "-cp", f"{jars}/*"]


def find_java() -> str | None:
    """The first Java that is new enough: JAVA_HOME's, or the one on the path."""
    home = os.environ.get("JAVA_HOME")
    for program in filter(None, [str(Path(home, "bin", "java")) if home else None, shutil.which("java")]):
        if (java_version(program) or 0) >= OLDEST_JAVA:
            return program
    return None


def java_version(program: str) -> int | None:
    """Java's major version; None when it does not run."""
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, check=True, timeout=30).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r'version "(\d+)', said)
    return int(version[1]) if version else None

"""The archive of Kafka's classes: Java takes it, brokers use it where it is, and do without it where it cannot be."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.kafka.classes import keep_classes
from infra.kafka.cluster import Cluster
from infra.kafka.java import ARCHIVE, Java
from tests.network.brokers import java_here
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough


def command(java: Java, folder: Path) -> list[str]:
    """What says Kafka's version."""
    return java.command(Cluster(java, folder, 1).nodes[0], "kafka.Kafka", "--version")


def test_java_takes_the_archive_that_is_made(tmp_path: Path) -> None:
    java = java_here()
    keep_classes(java)
    # With this option it refuses to run rather than skip an archive.
    strict = dataclasses.replace(java, options=("-Xshare:on",))
    done = subprocess.run(command(strict, tmp_path), capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert f"-XX:SharedArchiveFile={java.jars / ARCHIVE}" in command(java, tmp_path)


def test_without_an_archive_brokers_start_as_ever(tmp_path: Path) -> None:
    java = Java("java", tmp_path / "lib")
    assert not [each for each in command(java, tmp_path) if "SharedArchive" in each]


def test_what_cannot_be_made_is_said_and_left(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    java = Java(str(shutil.which("false")), tmp_path / "lib")
    java.jars.mkdir()
    keep_classes(java)
    assert list(java.jars.iterdir()) == []
    assert "every broker will take its time: node 1 could not format its storage" in capfd.readouterr().err

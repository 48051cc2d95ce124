"""Brokers in containers. Where no engine answers, `docker` is a stand-in whose containers are processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.kafka import wire
from infra.kafka.access import Access
from infra.kafka.choice import choose
from infra.kafka.cluster import Cluster, start_broker
from infra.kafka.docker import Docker, find_docker
from tests.patience import paced_s

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).with_name("docker_stand_in.py")
GONE_WITHIN_S = 30


class Engine:
    """A container engine, and what runs in it by its own account."""

    def __init__(self, docker: Docker, state: Path | None) -> None:
        self.docker, self.state = docker, state

    def left(self) -> list[str]:
        """The names of this project's containers and networks."""
        if self.state:
            return sorted(each.name for each in self.state.glob("*/lastseen-*"))
        asked = [["ps", "--all", "--format", "{{.Names}}"], ["network", "ls", "--format", "{{.Name}}"]]
        names = [
            subprocess.run([self.docker.program, *each], capture_output=True, text=True, check=True).stdout.split()
            for each in asked
        ]
        return sorted(name for found in names for name in found if name.startswith("lastseen-"))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The engine that answers here, or the stand-in."""
    launcher = choose()
    if isinstance(launcher, Docker):
        return Engine(launcher, None)
    state = tmp_path / "engine"
    for folder in ("containers", "networks", "bin"):
        (state / folder).mkdir(parents=True)
    program = state / "bin" / "docker"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("DOCKER_STAND_IN", str(state))
    monkeypatch.setenv("DOCKER_STAND_IN_JARS", str(launcher.jars))
    path = [str(program.parent), str(Path(launcher.program).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    return Engine(find_docker(), state)


def test_a_broker_in_a_container_can_be_killed_and_stopped(engine: Engine, tmp_path: Path) -> None:
    before = engine.left()
    broker = start_broker(engine.docker, tmp_path / "broker", access=Access("PLAIN", {"ada": "enigma"}))
    assert wire.brokers(broker.address) == [wire.Broker(1, "127.0.0.1", broker.ports.clients)]
    with pytest.raises(ValueError, match="is running"):
        broker.begin()

    broker.kill()
    assert engine.left() == before
    broker.start()
    assert wire.brokers(broker.address)

    assert broker.stop() == 128 + signal.SIGTERM
    assert engine.left() == before


def test_three_brokers_in_containers_find_each_other(engine: Engine, tmp_path: Path) -> None:
    before = engine.left()
    cluster = Cluster(engine.docker, tmp_path / "cluster", 3)
    try:
        cluster.start()
        assert len(wire.brokers(cluster.nodes[0].address)) == 3
        assert len(engine.left()) == len(before) + 4
    finally:
        cluster.kill()
    assert engine.left() == before


STARTER = """
import sys
from pathlib import Path
from infra.kafka.cluster import start_broker
from infra.kafka.docker import find_docker
start_broker(find_docker(), Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_no_container_outlives_a_starter_that_is_killed(engine: Engine, tmp_path: Path) -> None:
    before = engine.left()
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "broker")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with starter:
        assert starter.stdout.readline() == "ready\n"
        assert len(engine.left()) == len(before) + 2

        starter.send_signal(signal.SIGKILL)
        starter.wait()

        deadline_s = paced_s() + GONE_WITHIN_S
        while engine.left() != before and paced_s() < deadline_s:
            time.sleep(0.05)  # waits: for another process to clear up, which sends no notification
        assert engine.left() == before

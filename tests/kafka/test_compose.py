"""`docker-compose.yml`: the Kafka of the pom, nothing too early, nothing open to the network, nothing missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from infra.kafka.docker import image
from infra.kafka.jars import kafka_version

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "infra" / "docker" / "run_engine.py"
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8")
_PARTS = re.split(r"^  ([\w-]+):\n", COMPOSE.split("\nservices:\n")[1].split("\nvolumes:\n")[0], flags=re.MULTILINE)
SERVICES = dict(zip(_PARTS[1::2], _PARTS[2::2], strict=True))


def compose_is_here() -> bool:
    """Whether the docker program has compose; no engine is needed."""
    docker = shutil.which("docker")
    return bool(docker) and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0


def test_kafka_is_the_one_of_the_pom() -> None:
    pom = (ROOT / "infra" / "kafka" / "pom.xml").read_text(encoding="utf-8")
    assert re.findall(r"apache/kafka:(\S+)", COMPOSE) == re.findall(r"<kafka\.version>(.+?)<", pom) == [kafka_version()]
    assert image() == f"apache/kafka:{kafka_version()}"


def test_every_image_has_a_version() -> None:
    images = re.findall(r"^ +image: (\S+)", COMPOSE, flags=re.MULTILINE) + re.findall(
        r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE
    )
    assert len(images) >= 7
    assert [name for name in images if not re.search(r":(?!latest|main)\S", name)] == []


def test_its_services_are_these() -> None:
    assert list(SERVICES) == ["kafka", "topics", "engine-1", "engine-2", "prometheus", "grafana", "kafka-ui"]


def test_who_depends_on_another_waits_for_its_health() -> None:
    waits = re.findall(r"^      ([\w-]+): \{condition: (\w+)\}", COMPOSE, flags=re.MULTILINE)
    assert {name for name, _ in waits} == {"kafka", "topics", "engine-1", "engine-2", "prometheus"}
    for name, condition in waits:
        assert condition == ("service_completed_successfully" if name == "topics" else "service_healthy"), name
        checked = "healthcheck:" in SERVICES[name] or "HEALTHCHECK" in DOCKERFILE
        assert checked, name
    assert COMPOSE.count("depends_on:") == len(SERVICES) - 1


def test_nothing_is_open_to_the_network() -> None:
    ports = re.findall(r'ports: \["(.*?)"\]', COMPOSE)
    assert len(ports) == COMPOSE.count("ports:")
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_what_is_mounted_and_copied_is_there() -> None:
    mounted = re.findall(r"- (\./\S+?):/", COMPOSE)
    copied = [
        name
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
        for name in sources.split()
    ]
    assert len(mounted) == 3
    assert [path for path in mounted + copied if not (ROOT / path).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [path for path in copied if f"!{path}" not in ignored] == []
    for path in (ROOT / "infra" / "grafana").rglob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["panels"]


def test_an_image_runs_as_an_ordinary_user_from_the_lock() -> None:
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER (?!root)\w", last, flags=re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert DOCKERFILE.count("pip install") == DOCKERFILE.count("--require-hashes") + DOCKERFILE.count(
        "--no-deps /dist/"
    )


def test_compose_takes_it() -> None:
    assert not re.search(r"\t", COMPOSE)
    if compose_is_here():
        command = ["docker", "compose", "--file", "docker-compose.yml", "config", "--quiet"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_containers_engine_works_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    environment = os.environ | {"LASTSEEN_LOG": f"sqlite:///{tmp_path}/log.db"}
    command = [sys.executable, str(ENGINE)]
    assert subprocess.run([*command, "--is-healthy"], cwd=tmp_path, check=False).returncode == 1
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as engine:
        assert json.loads(engine.stdout.readline())["live"] == 0
        assert subprocess.run([*command, "--is-healthy"], cwd=tmp_path, check=False).returncode == 0

        engine.send_signal(signal.SIGTERM)

        assert engine.wait() == 0
    assert subprocess.run([*command, "--is-healthy"], cwd=tmp_path, check=False).returncode == 1
    assert (tmp_path / "snapshot.db").exists()

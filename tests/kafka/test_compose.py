"""`docker-compose.yml`: the Kafka of the pom, nothing too early, nothing open to the network, nothing missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from infra.kafka.docker import image
from infra.kafka.jars import kafka_version
from lastseen.configuration.configuration import Configuration, configure
from lastseen.configuration.service_settings import ServiceSettings
from lastseen.embedded.settings import duration_ms
from tests.patience import EVENTUALLY_S, PATIENCE_S, paced_s

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8")
_PARTS = re.split(r"^  ([\w-]+):\n", COMPOSE.split("\nservices:\n")[1].split("\nvolumes:\n")[0], flags=re.MULTILINE)
SERVICES = dict(zip(_PARTS[1::2], _PARTS[2::2], strict=True))
MADE: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
OURS = ["topics", "tokens", "engine-1", "engine-2"]
LASTSEEN = str(Path(sys.executable).with_name("lastseen"))
"""The command, as it is installed beside this Python."""


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
    assert list(SERVICES) == ["kafka", *OURS, "prometheus", "grafana", "kafka-ui"]


def test_who_depends_on_another_waits_for_its_health() -> None:
    waits = re.findall(r"^      ([\w-]+): \{condition: (\w+)\}", COMPOSE, flags=re.MULTILINE)
    assert {name for name, _ in waits} == {"kafka", *OURS, "prometheus"}
    for name, condition in waits:
        ends = name in ("topics", "tokens")
        assert condition == ("service_completed_successfully" if ends else "service_healthy"), name
        checked = "healthcheck:" in SERVICES[name] or "HEALTHCHECK" in DOCKERFILE
        assert checked, name
    assert {name for name, each in MADE.items() if "depends_on" not in each} == {"kafka", "tokens"}


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
    assert len(mounted) == 5
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


def test_prometheus_reads_the_rules_and_asks_every_engine() -> None:
    settings: Any = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (place,) = settings["rule_files"]
    assert f"./infra/prometheus/rules.yml:{place}:ro" in MADE["prometheus"]["volumes"]
    (job,) = [each for each in settings["scrape_configs"] if each["job_name"] == "lastseen"]
    asked = [target for each in job["static_configs"] for target in each["targets"]]
    assert asked == [f"{name}:{ServiceSettings().port}" for name in OURS if name.startswith("engine-")]
    for name in OURS[2:]:
        assert configuration_of(name).service.open_metrics, "Prometheus has no token"


def test_our_containers_may_do_nothing_that_they_need_not() -> None:
    for name in OURS:
        made = MADE[name]
        assert (made["read_only"], made["tmpfs"], made["cap_drop"]) == (True, ["/tmp"], ["ALL"]), name
        assert made["security_opt"] == ["no-new-privileges:true"], name


def image_environment() -> dict[str, str]:
    """What the image's process finds, beside what a container adds."""
    last = DOCKERFILE.rpartition("FROM ")[2]
    lines = re.findall(r"^ENV ((?:.*\\\n)*.*)$", last, flags=re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(lines).replace("\\\n", " ")))


def configuration_of(name: str) -> Configuration:
    """How a container of ours is configured."""
    environment = image_environment() | MADE[name].get("environment", {})
    return configure(environment={key: str(value) for key, value in environment.items() if key != "PATH"})


def test_services_take_their_configuration() -> None:
    members = set()
    for name in ("engine-1", "engine-2"):
        configuration = configuration_of(name)
        settings, engine = configuration.service, configuration.engine
        assert f'"{settings.log}"' in SERVICES["topics"], "the topics of another log"
        members.add(engine["member"])
        assert engine["address"] == f"http://{name}:{settings.port}"
        mounts = dict(reversed(each.split(":")[:2]) for each in MADE[name]["volumes"])
        assert str(Path(engine["snapshot"]).parent) in mounts
        assert settings.token_file is not None
        assert mounts[str(Path(settings.token_file).parent)] == "tokens"
        patience_s = duration_ms("shutdown_timeout", settings.shutdown_timeout) / 1000
        assert float(MADE[name]["stop_grace_period"].removesuffix("s")) > patience_s + 10
        assert [each.rpartition(":")[2] for each in MADE[name]["ports"]] == [str(settings.port)]
    assert len(members) == 2
    assert f"EXPOSE {settings.port}" in DOCKERFILE


def command_of(container: str) -> list[str]:
    """The command of a container, with what is in this environment in the place of what is in the image."""
    return ["sh", "-c", MADE[container]["command"][2].replace("$$", "$").replace("lastseen token", f"{LASTSEEN} token")]


def test_the_image_serves_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {
        **os.environ, **image_environment(), "PATH": os.environ["PATH"], "LASTSEEN_PORT": port,
        "LASTSEEN_LOG": f"sqlite:///{tmp_path}/log.db", "LASTSEEN_SNAPSHOT": f"{tmp_path}/sessions.snapshot",
        "LASTSEEN_TOKEN_FILE": f"{tmp_path}/tokens.json", "LASTSEEN_OPEN_METRICS": "true",
    }  # fmt: skip
    make_token = command_of("tokens")
    made = subprocess.run(make_token, env=environment, capture_output=True, text=True, check=True)
    again = subprocess.run(make_token, env=environment, capture_output=True, text=True, check=True)
    assert (made.stdout[:3], again.stdout) == ("ls_", ""), "printed once, and the next start leaves it alone"
    (check,) = re.findall(r"HEALTHCHECK .*\n +CMD (\[.*\])$", DOCKERFILE, flags=re.MULTILINE)
    assert json.loads(check) == ["python", "/opt/lastseen/health.py"]
    assert "\nCOPY infra/docker/health.py /opt/lastseen/health.py\n" in DOCKERFILE
    probe = [sys.executable, str(ROOT / "infra/docker/health.py")]

    def is_healthy() -> bool:
        done = subprocess.run(probe, cwd=tmp_path, env=environment, capture_output=True, check=False)
        return done.returncode == 0

    (command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, flags=re.MULTILINE)
    assert not is_healthy()
    with subprocess.Popen([LASTSEEN, *json.loads(command)[1:]], cwd=tmp_path, env=environment) as service:
        try:
            give_up_s = paced_s() + EVENTUALLY_S
            while not is_healthy():
                assert service.poll() is None
                assert paced_s() < give_up_s

            address = f"http://127.0.0.1:{port}"
            assert httpx.get(f"{address}/v1/sessions", timeout=PATIENCE_S).status_code == 401
            published = httpx.get(
                f"{address}/v1/sessions", headers={"Authorization": f"Bearer {made.stdout.strip()}"}, timeout=PATIENCE_S
            )
            assert published.status_code == 200
            assert "lastseen_sessions" in httpx.get(f"{address}/metrics", timeout=PATIENCE_S).text

            service.send_signal(signal.SIGTERM)
            assert service.wait(PATIENCE_S) == 0
        finally:
            service.kill()
    assert (tmp_path / "sessions.snapshot").exists()
    assert {each.name.partition(".")[0] for each in tmp_path.iterdir()} <= {"log", "sessions", "tokens"}

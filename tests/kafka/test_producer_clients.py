"""`docs/how-to/producers.md`: its programs write with foreign clients to a real broker, and every record is applied."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource
from kafka_fixtures import OwnBroker, SharedBroker
from typer.testing import CliRunner

import lastseen
from infra.kafka import packages
from infra.kafka.jars import FOLDER
from infra.kafka.java import find_java
from lastseen.cli.program import app
from lastseen.engine.clock import SystemClock, iso_from_ms
from lastseen.engine.codec import envelope
from lastseen.engine.log.kafka.new_log import create_log
from lastseen.engine.log.kafka.topic import NewTopics
from lastseen.engine.log.kafka.url import parse_kafka_url
from tests.compat.node_program import node
from tests.docs.pages import DOCS, blocks
from tests.patience import PATIENCE_S

PAGE = DOCS / "how-to" / "producers.md"
BLOCKS = {block.title: block.text for block in blocks(PAGE) if block.title is not None}
ONLY_SHOWN = ["go", "csharp", "go"]
"""Languages whose clients are not available here; the page says that these examples are not run."""
NOT_RUN = {"acls.sh"}
"""Kafka's program for ACLs is not among the jars that a broker needs."""
PARTITIONS, EVENTS = 5, 20
BOOTSTRAP = "bootstrap.servers"
KAFKAJS = Path(__file__).with_name("kafkajs")


class Place:
    """A topic of its own, and a folder in which the page's programs stand."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.topic, self.folder = address, f"chat-{uuid.uuid4().hex}", folder
        self.url = f"kafka://{self.address}/{self.topic}"
        create_log(parse_kafka_url(self.url), NewTopics(PARTITIONS))

    def here(self, title: str) -> str:
        """A block of the page, for this broker and topic."""
        return BLOCKS[title].replace("localhost:9092", self.address).replace("chat.sessions", self.topic)

    def save(self, title: str) -> str:
        (self.folder / title).write_text(self.here(title), encoding="utf-8")
        return title

    def commands(self, title: str) -> list[str]:
        return [line.removeprefix("$ ") for line in self.here(title).splitlines() if line.startswith("$ ")]

    def run(self, command: Sequence[str]) -> str:
        """Run a program there; what it prints."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE_S * 4, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def write_events(self, name: str) -> None:
        """`events.tsv`: a key, a tab and an event on each line."""
        lines = []
        for number in range(EVENTS):
            key = f"{name}:{number}"
            data = {"session_id": secrets.token_urlsafe(16), "policy": {"idle_ttl_ms": 1_800_000}}
            time = iso_from_ms(SystemClock().now_ms())
            value = envelope("lastseen.session.created.v1", uuid.uuid4().hex, f"/{name}", key, time, data)
            lines.append(f"{key}\t{value.decode()}\n")
        (self.folder / "events.tsv").write_text("".join(lines), encoding="utf-8")

    def check(self, name: str) -> None:
        """Every event was applied, in the partition in which its key is looked for; and the page's check agrees."""
        with lastseen.open_engine(self.url, background=False, facts=False, prune=False) as engine:
            assert {session.key for session in engine.list(limit=1_000).sessions} == {
                f"{name}:{number}" for number in range(EVENTS)
            }
            assert sum(each.records for each in engine.sources()) >= EVENTS
            assert not any(each.void for each in engine.sources())
        (command,) = self.commands("check.sh")
        result = CliRunner().invoke(app, command.split()[1:])
        assert result.exit_code == 0, result.output


@pytest.fixture
def place(kafka_broker: SharedBroker, tmp_path: Path) -> Place:
    return Place(kafka_broker.address, tmp_path)


def java() -> str:
    """A Java that runs a source file: one with a compiler."""
    program = find_java()
    modules = "" if program is None else subprocess.check_output([program, "--list-modules"], text=True)
    if program is None or "jdk.compiler" not in modules:
        packages.install(["openjdk-17-jdk-headless"], why="the producer in Java")
        program = find_java()
    assert program is not None, "a JDK runs the producer in Java: apt-get install openjdk-17-jdk-headless"
    return program


def test_librdkafka_in_python(place: Place) -> None:
    place.run([sys.executable, place.save("produce.py")])
    place.check("python")


def test_the_default_partitioner_of_librdkafka_is_found(place: Place) -> None:
    text = place.here("produce.py").replace('"partitioner": "murmur2_random",', "")
    (place.folder / "wrong.py").write_text(text, encoding="utf-8")
    place.run([sys.executable, "wrong.py"])

    result = CliRunner().invoke(app, ["producers", "check", "--log", place.url, "-o", "json"])

    assert result.exit_code == 1
    (source,) = [each for each in json.loads(result.stdout)["sources"] if each["faults"]]
    assert (source["source"], source["faults"][0]["fault"]) == ("/gateway/discord", "wrong_partition")
    assert "murmur2_random" in source["faults"][0]["fix"]


@pytest.mark.thorough
def test_java(place: Place) -> None:
    place.write_events("java")
    place.run([java(), "-cp", f"{FOLDER / 'lib'}/*", place.save("Produce.java")])
    place.check("java")


@pytest.mark.thorough
def test_kafkajs(place: Place) -> None:
    npm = shutil.which("npm") or (packages.install(["npm"], why="kafkajs") and shutil.which("npm"))
    assert npm, "npm brings kafkajs: apt-get install npm"
    for name in ("package.json", "package-lock.json"):
        shutil.copy(KAFKAJS / name, place.folder)
    place.run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"])
    place.run([node(), place.save("produce.js")])
    place.check("kafkajs")


@pytest.mark.thorough
def test_kcat(place: Place) -> None:
    if shutil.which("kcat") is None:
        packages.install(["kcat"], why="the producer with kcat")
    assert shutil.which("kcat"), "kcat is one of the page's producers: apt-get install kcat"
    place.write_events("kcat")
    (command,) = place.commands("produce.sh")
    place.run(["sh", "-c", command])
    place.check("kcat")


@pytest.mark.thorough
def test_quotas_and_compression_are_set_by_the_commands(own_kafka_broker: OwnBroker, tmp_path: Path) -> None:
    place = Place(own_kafka_broker().address, tmp_path)
    program = [java(), "-cp", f"{FOLDER / 'lib'}/*", "kafka.admin.ConfigCommand"]
    for title in ("quotas.sh", "compression.sh"):
        for command in place.commands(title):
            words = command.split()
            assert words[0] == "kafka-configs.sh"
            place.run([*program, *words[1:]])
    show = ["--bootstrap-server", place.address, "--describe", "--entity-type", "users"]
    described = place.run([*program, *show])
    assert "producer_byte_rate=1048576" in described
    assert "discord" not in described, "the last command lifts it"
    resource, admin = ConfigResource(ConfigResource.Type.TOPIC, place.topic), AdminClient({BOOTSTRAP: place.address})
    assert admin.describe_configs([resource])[resource].result(PATIENCE_S)["compression.type"].value == "lz4"


def test_every_block_is_run_or_said_not_to_be() -> None:
    run = {"produce.py", "Produce.java", "produce.js", "produce.sh", "check.sh", "quotas.sh", "compression.sh"}
    assert BLOCKS.keys() == run | NOT_RUN
    assert [block.language for block in blocks(PAGE) if block.title is None] == ONLY_SHOWN
    text = PAGE.read_text(encoding="utf-8")
    assert "Those in Go, .NET\nand for aiokafka are not run there." in text

"""A program with Kafka clients of its own finds them as kafka-python made them, whatever lastseen does beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kafka_fixtures import SharedBroker
from kafka_topics import new_url, write_foreign

from lastseen.engine.log.kafka.url import parse_kafka_url

PROGRAM = Path(__file__).with_name("host_application.py")
PATIENCE_S = 120


def test_a_log_and_an_engine_change_nothing_of_kafka_python(kafka_broker: SharedBroker) -> None:
    own = new_url(kafka_broker.address)
    write_foreign(own, [(b"key", b"a record of the program's own")])
    arguments = [new_url(kafka_broker.address), kafka_broker.address, parse_kafka_url(own).topic]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    genesis, *said["own"] = said["own"]
    assert "lastseen.log.opened.v1" in genesis
    assert said == {
        "changed": [],
        "changed at the end": [],
        "own": ["a record of the program's own"],
    }

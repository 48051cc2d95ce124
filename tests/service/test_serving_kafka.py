"""Two processes on one topic of Kafka: when one receives the signal to stop, the other has its partitions at once."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from lastseen.engine.log.kafka.new_log import create_log
from lastseen.engine.log.kafka.topic import NewTopics
from lastseen.engine.log.kafka.url import parse_kafka_url
from tests.kafka_fixtures import OwnBroker, SharedBroker
from tests.patience import PATIENCE_S, paced_s
from tests.service.running import Running, wait_until

PARTITIONS = 4
SESSION_TIMEOUT_S = 10
"""After so long the group would find out by itself that a member has gone."""


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    """A log of the test's own."""
    url = f"kafka://{kafka_broker.address}/service-{uuid.uuid4().hex[:12]}"
    create_log(parse_kafka_url(url), NewTopics(PARTITIONS))
    return url


def answer_of(url: str) -> httpx.Response | None:
    """What is there, if something is."""
    answer = httpx.get(url, timeout=PATIENCE_S)
    return answer if answer.status_code == 200 else None


def owned(address: str) -> int:
    """How many partitions a process says that it owns."""
    figures = httpx.get(f"{address}/metrics", timeout=PATIENCE_S).text
    found = re.search(r'^lastseen_partitions\{share="owned"\} (\d+)', figures, re.MULTILINE)
    assert found, "no such figure"
    return int(found[1])


def test_who_stops_hands_its_partitions_over(tmp_path: Path, url: str) -> None:
    def process(name: str) -> Running:
        return Running(tmp_path, "--log", url, "--port", "0", "--snapshot", f"{name}.snapshot")

    with process("one") as one, process("two") as two:
        first, second = one.address(), two.address()
        wait_until(lambda: (owned(first), owned(second)) == (2, 2), "each has its half")
        made = {}
        for number in range(40):
            answer = httpx.post(
                f"{(first, second)[number % 2]}/v1/sessions", json={"key": f"key:{number}"}, timeout=PATIENCE_S
            )
            assert answer.status_code == 201
            made[f"key:{number}"] = answer.json()["session_id"]
        signalled_s = paced_s()
        one.tell()
        wait_until(lambda: owned(second) == PARTITIONS, "the other has all")
        assert paced_s() - signalled_s < SESSION_TIMEOUT_S, "nothing was handed over: the group has only found it out"
        assert one.exit_code() == 0
        assert "Traceback" not in "".join(one.errors)
        with process("one") as again:
            third = again.address()
            assert again.line("the log is read")["sessions"] == len(made)
            for key, session_id in made.items():
                for address in (second, third):
                    url_of_it = f"{address}/v1/sessions/{key}"
                    found = wait_until(partial(answer_of, url_of_it), f"{key} is there")
                    assert found.json()["session_id"] == session_id
            two.tell()
            assert two.exit_code() == 0
            wait_until(lambda: owned(third) == PARTITIONS, "the last has all")
            again.tell()
            assert again.exit_code() == 0


@pytest.mark.thorough
def test_a_log_out_of_reach_does_not_keep_it_from_ending(tmp_path: Path, own_kafka_broker: OwnBroker) -> None:
    broker = own_kafka_broker()
    url = f"kafka://{broker.address}/outage"
    create_log(parse_kafka_url(url), NewTopics(1))
    with Running(tmp_path, "--log", url, "--port", "0", "--set", "shutdown_timeout=2s") as service:
        address = service.address()
        assert httpx.post(f"{address}/v1/sessions", json={"key": "ana"}, timeout=PATIENCE_S).status_code == 201
        broker.kill()
        with ThreadPoolExecutor(1) as caller:
            touched = caller.submit(httpx.post, f"{address}/v1/sessions/ana/touch", timeout=PATIENCE_S)
            service.until(lambda: httpx.get(f"{address}/readyz", timeout=PATIENCE_S).status_code == 503, "it knows")
            signalled_s = paced_s()
            service.tell()
            assert service.exit_code() == 4
            assert paced_s() - signalled_s < 10
            assert isinstance(touched.exception(), httpx.RemoteProtocolError), "nothing was promised"
        assert "error" not in {line["level"] for line in service.lines()}
        service.line("ended without the log's response: nothing acknowledged is lost, the next owner continues")

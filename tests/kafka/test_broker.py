"""The brokers that other tests rely on: they answer, keep their records through a kill, and leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from itertools import islice
from pathlib import Path

import pytest
from kafka import TopicPartition
from kafka.admin import NewTopic

from infra.kafka import wire
from infra.kafka.node import BrokerFailed
from lastseen.engine.log.kafka.client import open_admin, open_consumer, open_producer
from lastseen.engine.log.kafka.url import KafkaUrl, parse_kafka_url
from tests.patience import paced_s

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
GONE_WITHIN_S = 20


def url_of(address: str, topic: str) -> KafkaUrl:
    """For clients of ours: kafka-python's own leave the socket of a refused connection to the garbage collector."""
    return parse_kafka_url(f"kafka://{address}/{topic}")


def make_topic(address: str, copies: int = 1) -> str:
    """A new topic of one partition."""
    name = f"broker-{uuid.uuid4().hex}"
    admin = open_admin(url_of(address, name))
    admin.create_topics([NewTopic(name, 1, copies)])
    admin.close()
    return name


def append(address: str, topic: str, values: list[bytes]) -> None:
    """Write records and wait until every one is acknowledged."""
    producer = open_producer(url_of(address, topic))
    for sent in [producer.send(topic, value, partition=0) for value in values]:
        sent.get(30)
    producer.close()


def records(address: str, topic: str, count: int) -> list[bytes]:
    """The first `count` records of a topic."""
    consumer = open_consumer(url_of(address, topic), consumer_timeout_ms=30_000)
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek_to_beginning()
    values = [record.value for record in islice(consumer, count)]
    consumer.close()
    return values


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and only waits to be noticed does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        return subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 0
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_the_shared_broker_answers(kafka_broker) -> None:
    known = wire.brokers(kafka_broker.address.split(",")[0])
    assert known
    topic = make_topic(kafka_broker.address)
    append(kafka_broker.address, topic, [b"one", b"two"])
    assert records(kafka_broker.address, topic, 2) == [b"one", b"two"]


def test_records_survive_a_kill_and_a_stop(own_kafka_broker) -> None:
    broker = own_kafka_broker()
    address = broker.address
    topic = make_topic(address)
    append(address, topic, [b"%d" % number for number in range(1000)])

    broker.kill()
    with pytest.raises(OSError):
        wire.brokers(address)
    broker.start()

    assert broker.address == address
    assert records(address, topic, 1000) == [b"%d" % number for number in range(1000)]
    append(address, topic, [b"after the kill"])

    assert broker.stop() == 128 + signal.SIGTERM
    broker.restart()

    assert records(address, topic, 1001)[-1] == b"after the kill"


def test_a_stopped_broker_leaves_no_process(own_kafka_broker) -> None:
    broker = own_kafka_broker()
    pid = broker.pid
    assert is_alive(pid)

    assert broker.stop() == 128 + signal.SIGTERM

    assert broker.pid is None
    assert not is_alive(pid)
    assert broker.stop() is None


def test_two_of_three_brokers_go_on(own_kafka_cluster) -> None:
    cluster = own_kafka_cluster(3)
    topic = make_topic(cluster.address, copies=3)
    append(cluster.address, topic, [b"with three"])

    cluster.nodes[1].kill()
    append(cluster.address, topic, [b"with two"])
    cluster.nodes[1].start()
    cluster.nodes[2].kill()

    assert records(cluster.address, topic, 2) == [b"with three", b"with two"]


STARTER = """
import sys
from pathlib import Path
from infra.kafka.choice import choose
from infra.kafka.cluster import start_broker
print(start_broker(choose(), Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""


def test_no_broker_outlives_a_starter_that_is_killed(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with starter:
        pid = int(starter.stdout.readline())
        assert is_alive(pid)

        starter.send_signal(signal.SIGKILL)
        starter.wait()

        deadline_s = paced_s() + GONE_WITHIN_S
        while is_alive(pid) and paced_s() < deadline_s:
            time.sleep(0.01)  # waits: for another process to end, which sends no notification
        assert not is_alive(pid)


def test_a_broker_that_cannot_start_says_why(own_kafka_broker) -> None:
    with pytest.raises(BrokerFailed, match=r"log\.segment\.bytes"):
        own_kafka_broker(settings={"log.segment.bytes": "none"})

"""What a log does when its broker dies, comes back, hangs, or is not there: nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka_fixtures import OwnBroker, OwnCluster, SharedBroker
from kafka_topics import Open, administering, eventually, message, new_topic, values

from infra.kafka.node import Node
from lastseen.engine import errors
from lastseen.engine.log.kafka.topic import describe
from lastseen.engine.log.port import Message, Position
from tests.patience import PATIENCE_S, paced_s

OUTAGE = "?delivery_timeout_ms=6000"


def kafka_threads() -> list[str]:
    """The threads that logs on Kafka have started."""
    return [thread.name for thread in threading.enumerate() if "kafka" in thread.name or "lastseen" in thread.name]


class Load:
    """Callers that append without end, and note what they received."""

    def __init__(self, log: Any, callers: int = 4) -> None:
        self.acknowledged: list[tuple[Position, bytes]] = []
        self.unknown: list[bytes] = []
        self.unwritten: list[bytes] = []
        self.slowest_s = 0.0
        self.surprises: list[BaseException] = []
        self._log, self._stop = log, threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, caller: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            sent = [Message(0, f"k{caller}", b"%d.%d.%d" % (caller, number, n)) for n in range(number % 3 + 1)]
            began = paced_s()
            try:
                placed = self._log.append(sent) if number % 2 else self._log.append_soon(sent).result(PATIENCE_S)
                self.acknowledged += [(at, each.value) for at, each in zip(placed, sent, strict=True)]
            except errors.OutcomeUnknown:
                self.unknown += [each.value for each in sent]
            except errors.LogUnavailable:
                self.unwritten += [each.value for each in sent]
            except BaseException as error:
                self.surprises.append(error)
                return
            self.slowest_s = max(self.slowest_s, paced_s() - began)

    def count(self) -> int:
        return len(self.acknowledged)

    def check(self, stored: list[bytes | None]) -> None:
        """Nothing acknowledged is lost or twice there, and nothing is there that was said not to be."""
        assert self.surprises == []
        assert all(stored[at.offset] == value for at, value in self.acknowledged)
        assert len({at for at, _ in self.acknowledged}) == len(self.acknowledged)
        assert len(set(stored)) == len(stored), "written twice"
        assert not set(self.unwritten) & set(stored), "said not to be written, and it was"
        assert set(stored) == {value for _, value in self.acknowledged} | (set(self.unknown) & set(stored))


@pytest.fixture
def broker(own_kafka_broker: OwnBroker) -> Node:
    return own_kafka_broker()


def test_a_broker_is_killed_and_started_again_under_load(opened: Open, broker: Node) -> None:
    url = new_topic(broker.address)
    log, reader = opened(url), opened(url)
    assert reader.read(0, 0, 1) == []
    with Load(log) as load:
        for _ in range(3):
            before = load.count()
            assert eventually(lambda before=before: load.count() > before + 200)
            broker.kill()
            broker.start()
        before = load.count()
        assert eventually(lambda: load.count() > before + 200), "appends resume by themselves"
    assert load.slowest_s < 30
    stored = values(reader, window=500)
    load.check(stored)
    assert values(log, window=499) == stored
    assert len(load.unknown) < 100, "only what was on its way when the broker died"
    log.close()
    reader.close()
    assert kafka_threads() == []


@pytest.mark.thorough
def test_a_broker_that_is_away_for_long(opened: Open, broker: Node) -> None:
    url = new_topic(broker.address, options=OUTAGE)
    log = opened(url, max_waiting_bytes=100_000)
    log.append([message("before")])
    with Load(log, 3) as load:
        assert eventually(lambda: load.count() > 100)
        broker.stop()
        assert eventually(lambda: len(load.unwritten) >= 3, 20), "no caller waits longer than it must"
        before = load.count()
        began = paced_s()
        with pytest.raises(errors.LogUnavailable):
            log.append([message("during")])
        assert paced_s() - began < 8
        with pytest.raises(errors.LogUnavailable):
            log.end_offsets()
        broker.start()
        assert eventually(lambda: load.count() > before + 100), "appends resume by themselves"
    assert load.slowest_s < 12
    load.acknowledged.append((Position(0, 0), b"before"))
    load.check(values(log))


@pytest.mark.thorough
def test_a_broker_that_hangs_leaves_the_outcome_unknown(opened: Open, broker: Node) -> None:
    url = new_topic(broker.address, options=OUTAGE)
    log = opened(url)
    log.append([message("before")])
    assert broker.pid is not None
    pid = java_of(broker.pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = paced_s()
        first = log.append_soon([message("sent")])
        with pytest.raises((errors.OutcomeUnknown, errors.LogUnavailable)):
            log.append([message("behind it")])
        with pytest.raises(errors.OutcomeUnknown, match="read before you try again"):
            first.result(PATIENCE_S)
        assert paced_s() - began < 13
    finally:
        os.kill(pid, signal.SIGCONT)
    placed: list[Position] = []

    def is_taken() -> bool:
        try:
            placed.extend(log.append([message("after")]))
        except errors.LogError:
            return False
        return True

    assert eventually(is_taken)
    stored = values(log)
    assert stored[placed[0].offset] == b"after"
    assert stored[0] == b"before"
    assert len(set(stored)) == len(stored)
    assert log.writer.producers >= 2


def java_of(guard: int) -> int:
    """The process that is the broker: the last of its line."""
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    children = [process for process in processes if parent_of(process) == guard]
    return java_of(children[0]) if children else guard


def parent_of(pid: int) -> int:
    """Who has started a process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return int(stat.rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return -1


@pytest.mark.thorough
def test_closing_without_a_broker_ends_and_leaves_no_thread(opened: Open, broker: Node) -> None:
    url = new_topic(broker.address, options="?delivery_timeout_ms=2000")
    log = opened(url)
    log.append([message("a")])
    log.read(0, 1, 1)
    broker.kill()
    futures = [log.append_soon([message(str(number))]) for number in range(20)]
    began = paced_s()
    log.close()
    assert paced_s() - began < 15
    for future in futures:
        assert isinstance(future.exception(0), errors.LogError)
    assert eventually(lambda: kafka_threads() == [])


def test_no_broker_is_said_in_time(opened: Open) -> None:
    before = kafka_threads()
    began = paced_s()
    with pytest.raises(errors.LogUnavailable, match=r"kafka://127\.0\.0\.1:1/topic.*broker is up"):
        opened("kafka://127.0.0.1:1/topic")
    assert paced_s() - began < 10
    assert kafka_threads() == before


@pytest.mark.thorough
def test_the_leader_dies_and_another_takes_over(opened: Open, own_kafka_cluster: OwnCluster) -> None:
    cluster = own_kafka_cluster(3)
    url = new_topic(cluster.address)
    with administering(url) as (admin, kafka_url):
        topic = describe(admin, kafka_url, kafka_url.topic)
        assert topic is not None
        assert (topic.replication, topic.settings["min.insync.replicas"]) == (3, "2")
    log, reader = opened(url), opened(url)
    assert reader.read(0, 0, 1) == []
    with Load(log) as load:
        for _ in range(2):
            before = load.count()
            assert eventually(lambda before=before: load.count() > before + 100, 60)
            leader = cluster.nodes[leader_of(url) - 1]
            leader.kill()
            before = load.count()
            assert eventually(lambda before=before: load.count() > before + 100, 60), "another leads now"
            leader.start()
    stored = values(reader, window=500)
    load.check(stored)
    assert log.end_offsets() == [len(stored)]
    assert values(opened(url)) == stored


def leader_of(url: str) -> int:
    """The node that leads the first partition."""
    with administering(url) as (admin, kafka_url):
        (topic,) = admin.describe_topics([kafka_url.topic])
    return int(topic["partitions"][0]["leader_id"])


# ── a producer that cannot go on ──


@pytest.mark.parametrize(
    "error",
    [kafka_errors.ProducerFencedError, kafka_errors.OutOfOrderSequenceNumberError, kafka_errors.InvalidTxnStateError],
)
def test_a_spoilt_producer_is_replaced(
    opened: Open, kafka_broker: SharedBroker, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(new_topic(kafka_broker.address, 2))
    log.append([message("a"), message("b", 1)])
    spoilt = log.writer._producer
    producer = spoilt._producer
    sender = producer._sender
    hold, answered = threading.Event(), sender._handle_produce_response

    def answer(node: int, sent_s: float, batches: list[Any], response: Any) -> None:
        """The broker says no, where it has said yes."""
        hold.wait(PATIENCE_S)
        for batch in batches:
            sender._complete_batch_with_exception(batch, error("made up"))

    sender._handle_produce_response = answer
    doomed = [log.append_soon([message("c")]), log.append_soon([message("d", 1)])]
    queued = log.append_soon([message("e")])
    hold.set()
    failures = [each.exception(PATIENCE_S) for each in [*doomed, queued]]
    is_clear = error is kafka_errors.OutOfOrderSequenceNumberError
    assert type(failures[0]) is (errors.LogUnavailable if is_clear else errors.OutcomeUnknown), failures
    assert isinstance(failures[1], errors.LogError)
    # What was not sent goes with the next producer, or fails as not written.
    assert failures[2] is None or type(failures[2]) is errors.LogUnavailable
    placed = log.append([message("f")])
    assert values(log)[placed[0].offset] == b"f"
    assert log.writer.producers == 2
    assert log.writer._producer is not spoilt
    assert not sender.is_alive(), "the old one's thread has ended"
    assert answered is not None


def test_a_producer_that_is_refused_says_so_at_once(opened: Open, kafka_broker: SharedBroker) -> None:
    log = opened(new_topic(kafka_broker.address))

    def refuse() -> Any:
        raise errors.LogUnavailable("not allowed")

    log.writer._connect = refuse
    began = paced_s()
    with pytest.raises(errors.LogUnavailable, match="not allowed"):
        log.append([message("a")])
    assert paced_s() - began < 5, "waiting would not help"

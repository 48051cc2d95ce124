"""The emitter on a real broker: nothing is opened for reading, nothing acknowledged is lost, nothing overtakes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kafka_fixtures import OwnBroker, SharedBroker
from kafka_topics import Open, eventually, new_url, records

from infra.kafka.node import Node
from lastseen import Emitter, EmitterFull, NotDelivered, open_engine
from lastseen.engine import codec, events
from lastseen.engine.log.kafka import client
from lastseen.engine.partitioner import partition_of
from tests.patience import PATIENCE_S, paced_s

ID = "0123456789abcdefghijkl"
SOURCE = "/tests"
Made = Callable[..., Emitter]


@pytest.fixture
def made() -> Iterator[Made]:
    """Makes emitters, and shuts them down after the test, however it went."""
    emitters: list[Emitter] = []

    def make(url: str, **settings: Any) -> Emitter:
        emitters.append(Emitter(url, **({"source": SOURCE} | settings)))
        return emitters[-1]

    yield make
    for emitter in emitters:
        with suppress(NotDelivered):  # a test that is about it has seen it
            emitter.shutdown(0.0)


def said(log: Any, partition: int = 0) -> list[tuple[str, int | None, str]]:
    """Of each event in a partition its key, the number it carries as its version, and its id."""
    found = []
    for record in records(log, partition, 20_000):
        decoded = codec.decode(record.key, record.value)
        assert isinstance(decoded, tuple), record
        event = decoded[0]
        if not isinstance(event, events.SessionEvent):
            continue
        found.append((event.subject, event.data.if_version, event.id))
    return found


def check_order(found: list[tuple[str, int | None, str]]) -> None:
    """What stands there twice does so before anything of its key that came after it; nothing overtook anything."""
    numbers: dict[str, list[int]] = {}
    for key, number, _ in found:
        assert number is not None
        numbers.setdefault(key, []).append(number)
    for key, seen in numbers.items():
        first = list(dict.fromkeys(seen))
        last = list(dict.fromkeys(seen[::-1]))[::-1]
        assert first == sorted(first), key
        assert last == sorted(last), key


class Reporter:
    """Services that emit without end, numbered by key."""

    def __init__(self, emitter: Emitter, keys: int = 8, callers: int = 2) -> None:
        self.emitter = emitter
        self.emitted: Counter[str] = Counter()
        self.refused = 0
        self._keys = [[f"k{caller}.{n}" for n in range(keys)] for caller in range(callers)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._report, args=(keys,)) for keys in self._keys]

    def __enter__(self) -> Reporter:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _report(self, keys: list[str]) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            for key in keys:
                try:
                    self.emitter.touch(key, ID, if_version=number)
                    self.emitted[key] += 1
                except EmitterFull:
                    self.refused += 1
            self._stop.wait(0.001)

    def total(self) -> int:
        return self.emitted.total()


# ── what it is not ──


def test_nothing_is_opened_for_reading(made: Made, kafka_broker: SharedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    open_one = client._open

    def note(kind: Any, *rest: Any) -> Any:
        opened.append(kind.__name__)
        return open_one(kind, *rest)

    url = new_url(kafka_broker.address, 3)
    monkeypatch.setattr(client, "_open", note)
    emitter = made(url)
    emitter.touch_many([(f"k{n}", ID) for n in range(5_000)])
    emitter.flush(PATIENCE_S)
    emitter.shutdown()
    assert sorted(opened) == ["KafkaAdminClient", "KafkaProducer"]


def test_keys_go_where_an_engine_looks_for_them(made: Made, opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address, 5)
    emitter = made(url)
    session_ids = {f"k{n}": emitter.open(f"k{n}", attributes={"n": n}) for n in range(300)}
    emitter.touch_many(session_ids.items())
    emitter.flush(PATIENCE_S)
    log = opened(url)
    keys = {record.key: number for number in range(5) for record in records(log, number)[1:]}
    assert keys == {key: partition_of(key, 5) for key in session_ids}
    with open_engine(url, background=False, facts=False, prune=False) as engine:
        views = {key: engine.get(key) for key in session_ids}
    assert {key: view.session_id for key, view in views.items() if view is not None} == session_ids
    assert {view.version for view in views.values() if view is not None} == {2}


def test_events_go_in_whole_batches(made: Made, kafka_broker: SharedBroker) -> None:
    emitter = made(new_url(kafka_broker.address))
    emitter.touch_many([(f"k{n}", ID) for n in range(50_000)])
    emitter.flush(PATIENCE_S)
    counts = emitter.statistics()
    assert counts["acknowledged"] == 50_000
    assert counts["batches"] < 200
    assert emitter._delivery.log.writer.batches < 200  # type: ignore[union-attr]


# ── brokers that die ──


@pytest.fixture
def broker(own_kafka_broker: OwnBroker) -> Node:
    return own_kafka_broker()


@pytest.mark.thorough
def test_a_broker_is_killed_and_started_again_while_services_report(made: Made, opened: Open, broker: Node) -> None:
    url = new_url(broker.address, 2)
    lost: list[Any] = []
    emitter = made(url, on_failure=lambda event, error: lost.append((event.id, error)))
    with Reporter(emitter) as reporter:
        for _ in range(3):
            before = emitter.statistics()["acknowledged"]
            assert eventually(lambda before=before: emitter.statistics()["acknowledged"] > before + 500)
            broker.kill()
            broker.start()
        before = emitter.statistics()["acknowledged"]
        assert eventually(lambda: emitter.statistics()["acknowledged"] > before + 500)
    emitter.flush(PATIENCE_S * 2)
    counts = emitter.statistics()
    assert lost == []
    assert reporter.refused == 0
    assert counts["acknowledged"] == counts["emitted"] == reporter.total()
    log = opened(url)
    found = said(log, 0) + said(log, 1)
    assert {key: max(n for k, n, _ in found if k == key and n) for key in reporter.emitted} == reporter.emitted
    assert len({event_id for _, _, event_id in found}) == counts["emitted"], "everything acknowledged is in the log"
    for partition in range(2):
        check_order(said(log, partition))


@pytest.mark.thorough
def test_a_broker_that_stays_away_is_reported_and_memory_is_bounded(made: Made, opened: Open, broker: Node) -> None:
    url = new_url(broker.address, options="?delivery_timeout_ms=1000")
    lost: dict[str, str] = {}
    emitter = made(
        url, give_up_after="3s", when_full="refuse", max_waiting_bytes=200_000,
        on_failure=lambda event, error: lost.setdefault(event.id, type(error).__name__),
    )  # fmt: skip
    with Reporter(emitter) as reporter:
        assert eventually(lambda: emitter.statistics()["acknowledged"] > 500)
        broker.stop()
        assert eventually(lambda: reporter.refused > 0), "memory is bounded"
        assert emitter.statistics()["waiting_bytes"] <= 200_000
        with pytest.raises(NotDelivered) as caught:
            emitter.flush(PATIENCE_S)
        assert caught.value.waiting == 0
        assert caught.value.failed + caught.value.unknown > 0
        broker.start()
        before = emitter.statistics()["acknowledged"]
        assert eventually(lambda: emitter.statistics()["acknowledged"] > before + 500), "it goes on by itself"
    with suppress(NotDelivered):
        emitter.flush(PATIENCE_S)
    counts = emitter.statistics()
    assert counts["acknowledged"] + counts["failed"] + counts["unknown"] == counts["emitted"] == reporter.total()
    assert len(lost) == counts["failed"] + counts["unknown"]
    found = said(opened(url))
    check_order(found)
    stored = {event_id for _, _, event_id in found}
    assert len(stored) - len(stored & set(lost)) == counts["acknowledged"], "what is there was acknowledged, or unknown"
    assert len(stored & set(lost)) <= counts["unknown"], "what failed is not there"


@pytest.mark.thorough
def test_shutting_down_without_a_broker_ends_in_time(made: Made, broker: Node) -> None:
    emitter = made(new_url(broker.address, options="?delivery_timeout_ms=2000"))
    emitter.touch("a", ID)
    emitter.flush(PATIENCE_S)
    broker.kill()
    emitter.touch_many([("a", ID)] * 100)
    began = paced_s()
    with pytest.raises(NotDelivered) as caught:
        emitter.shutdown(0.5)
    assert paced_s() - began < 20
    assert caught.value.failed + caught.value.unknown == 100


PROGRAM = """
import os, signal, sys
from lastseen import Emitter
emitter = Emitter(sys.argv[1], source="/program")
emitter.touch_many([(f"k{n}", "0123456789abcdefghijkl") for n in range(5_000)])
emitter.flush()
"""


def run(program: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, url],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def test_a_program_that_ends_without_a_word_sends_what_it_has(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address, 3)
    more = 'emitter.touch_many([(f"k{n}", "0123456789abcdefghijkl") for n in range(20_000)])'
    ended = run(PROGRAM + more, url)
    assert ended.returncode == 0, ended.stderr
    assert sum(opened(url).end_offsets()) == 25_003


def test_what_a_handler_of_atexit_emits_is_sent(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address, 3)
    last = 'import atexit\natexit.register(lambda: emitter.touch_many([("late", "0123456789abcdefghijkl")] * 40))\n'
    ended = run(PROGRAM + last, url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sum(opened(url).end_offsets()) == 5_043


@pytest.mark.thorough
def test_a_program_ends_in_time_without_a_broker_and_says_what_is_lost(broker: Node) -> None:
    assert broker.pid is not None
    url = new_url(broker.address)
    kill = f"""
os.kill({broker.pid}, signal.SIGKILL)
emitter.touch("a", "0123456789abcdefghijkl")
"""
    began = paced_s()
    ended = run(PROGRAM + kill, url)
    assert paced_s() - began < 30
    assert ended.returncode == 0, ended.stderr
    assert "1 events could not be sent" in ended.stderr


# ── forks ──


def in_child(work: Callable[[], None]) -> int:
    """Do something in a forked child; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_has_a_log_of_its_own_and_leaves_its_parents_alone(
    made: Made, opened: Open, kafka_broker: SharedBroker
) -> None:
    url = new_url(kafka_broker.address)
    emitter = made(url)
    emitter.touch("parent", ID, if_version=0)
    emitter.flush(PATIENCE_S)
    inherited = emitter._delivery.log
    with Reporter(emitter, keys=2, callers=1) as reporter:

        def work() -> None:
            assert emitter.statistics()["emitted"] == 0
            for number in range(1_000):
                emitter.touch("child", ID, if_version=number)
            emitter.flush(PATIENCE_S)
            assert emitter._delivery.log is not inherited
            emitter.shutdown(PATIENCE_S)

        for _ in range(3):
            assert in_child(work) == 0
        before = emitter.statistics()["acknowledged"]
        assert eventually(lambda: emitter.statistics()["acknowledged"] > before + 100)
    emitter.flush(PATIENCE_S)
    assert emitter._delivery.log is inherited, "the parent's goes on"
    found = said(opened(url))
    count = Counter(key for key, _, _ in found)
    assert (count.pop("child"), count.pop("parent")) == (3_000, 1)
    assert count == reporter.emitted
    assert len({event_id for _, _, event_id in found}) == len(found)


def _report(emitter: Emitter, count: int) -> None:
    emitter.touch_many([("child", ID)] * count)


def test_children_of_multiprocessing_send_at_their_end(made: Made, opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address)
    emitter = made(url)
    emitter.touch("parent", ID)
    emitter.flush(PATIENCE_S)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_report, args=(emitter, 2_000)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE_S)
    assert [child.exitcode for child in children] == [0, 0]
    assert opened(url).end_offsets() == [4_002]


def test_a_signal_that_ends_a_service_gracefully_loses_nothing(opened: Open, kafka_broker: SharedBroker) -> None:
    url = new_url(kafka_broker.address)
    serve = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
count = 5_000
try:
    print("ready", flush=True)
    while True:
        emitter.touch("a", "0123456789abcdefghijkl")
        count += 1
finally:
    print(count, flush=True)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + serve, url], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        count = int(child.stdout.readline())
        assert child.wait(PATIENCE_S) == 0
    (end,) = opened(url).end_offsets()
    assert end - 1 in (count, count + 1), "the signal may come between a touch and its being counted"

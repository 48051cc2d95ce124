"""Brokers die under engines: the engines go on by themselves, and nothing that was acknowledged is lost."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import lastseen
from infra.kafka.cluster import Cluster
from infra.kafka.node import Node
from lastseen.engine.errors import LogUnavailable, OutcomeUnknown, SessionEnded, SessionNotFound
from lastseen.engine.log.kafka.log import KafkaLog
from lastseen.engine.log.kafka.topic import describe
from lastseen.engine.log.kafka.url import FACTS, STATE, parse_kafka_url
from lastseen.engine.log.port import Message, Position
from lastseen.projections.partition import Outcome
from tests.kafka.kafka_topics import administering, eventually, new_url
from tests.kafka.published import checkpoints_of, facts_due, facts_in, live_in, names, refold, states_in
from tests.kafka.test_kafka_outage import java_of
from tests.kafka_fixtures import OwnBroker, OwnCluster
from tests.patience import PATIENCE_S, paced_s

pytestmark = pytest.mark.thorough

PARTITIONS = 4
CALLERS = 4
GOES_ON_WITHIN_S = 30.0
PAUSED_AT_MOST_S = 20.0
"""With one node of three killed: the cluster takes it for dead after 4 s, and elects others."""
ALONE_S = 1.5
"""How long a leader is alone, and acknowledges nothing; less than the cluster needs to take the others for dead."""
OpenEngine = Callable[..., lastseen.Engine]
_logger = logging.getLogger(__name__)


@pytest.fixture
def opened() -> Iterator[OpenEngine]:
    """Opens engines, and shuts them down after the test."""
    engines: list[lastseen.Engine] = []

    def open_one(url: str, **settings: Any) -> lastseen.Engine:
        engines.append(lastseen.open_engine(url, **settings))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.shutdown()


class Callers:
    """Threads that use sessions through engines without end, and note what was acknowledged, and how long it took."""

    def __init__(self, engines: list[lastseen.Engine]) -> None:
        self.acknowledged: list[tuple[Position, str]] = []
        """Places of records, and the session that each was acknowledged for."""
        self.ended: list[str] = []
        self.failed = self.refused = 0
        self.surprises: list[BaseException] = []
        self.largest_gap_s = 0.0
        self._last_s = paced_s()
        self._mutex, self._stop = threading.Lock(), threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(engines[number % len(engines)], number))
            for number in range(CALLERS)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def count(self) -> int:
        """How much was acknowledged."""
        return len(self.acknowledged)

    def goes_on(self, within_s: float = GOES_ON_WITHIN_S) -> bool:
        """Whether more is acknowledged, in time."""
        enough = self.count() + 100
        return eventually(lambda: self.count() >= enough, within_s)

    def _call(self, engine: lastseen.Engine, caller: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                self._use(engine, f"caller-{caller}-{number % 40}", number)
            except (OutcomeUnknown, LogUnavailable):
                self.failed += 1  # not acknowledged
            except (SessionEnded, SessionNotFound):
                self.refused += 1  # closed by a call whose outcome was unknown
            except BaseException as error:
                self.surprises.append(error)
                return

    def _use(self, engine: lastseen.Engine, key: str, number: int) -> None:
        session = engine.get(key) or self._noted(engine.open(key))
        if number % 5 == 0:
            engine.close(key, session_id=session.session_id)
            self.ended.append(session.session_id)
        else:
            touched = engine.touch(key, message=number)
            assert touched is not None
            self._noted(touched)

    def _noted(self, view: lastseen.SessionView) -> lastseen.SessionView:
        with self._mutex:
            now_s = paced_s()
            self.largest_gap_s = max(self.largest_gap_s, now_s - self._last_s)
            self._last_s = now_s
            self.acknowledged.append((view.position, view.session_id))
        return view


def check(url: str, engines: list[lastseen.Engine], callers: Callers) -> None:
    """What was acknowledged is there, the engines agree with the log, and everything was published."""
    assert callers.surprises == []
    assert callers.refused <= callers.failed
    sessions: dict[Position, str] = {}
    endings: list[str] = []

    def see(outcome: Outcome) -> None:
        if outcome.session is not None:
            sessions[Position(outcome.record.partition, outcome.record.offset)] = outcome.session.session_id
        if outcome.ended is not None:
            endings.append(outcome.ended.session_id)

    partitions = refold(url, see)
    assert [each for each in callers.acknowledged if sessions.get(each[0]) != each[1]] == []
    assert set(callers.ended) <= set(endings)
    assert len(set(endings)) == len(endings)
    wanted = checkpoints_of(partitions)
    assert eventually(lambda: all(engine.checkpoints() == wanted for engine in engines))
    assert eventually(lambda: not any(engine.health() for engine in engines)), [each.health() for each in engines]
    expected = facts_due(url)
    assert eventually(lambda: names(facts_in(url)) == expected)
    assert eventually(lambda: states_in(url) == live_in(engines[0]))


def test_engines_go_on_after_their_broker_was_killed_and_stopped(
    own_kafka_broker: OwnBroker, opened: OpenEngine
) -> None:
    broker = own_kafka_broker()
    url = new_url(broker.address, PARTITIONS)
    engines = [opened(url), opened(url)]
    with Callers(engines) as callers:
        assert callers.goes_on()
        for end in (broker.kill, broker.stop, broker.kill):
            end()
            broker.start()
            assert callers.goes_on(), [each.health() for each in engines]
    _logger.info("one broker: largest gap %.2f s, start of the broker included", callers.largest_gap_s)
    assert eventually(lambda: sorted(n for each in engines for n in each.owned()) == list(range(PARTITIONS)))
    check(url, engines, callers)


def test_engines_outlast_a_broker_that_stays_away(own_kafka_broker: OwnBroker, opened: OpenEngine) -> None:
    broker = own_kafka_broker()
    url = new_url(broker.address, PARTITIONS)
    engines = [opened(f"{url}?delivery_timeout_ms=3000"), opened(f"{url}?delivery_timeout_ms=3000")]
    policy = lastseen.policy(idle_ttl="2s")
    for number in range(20):
        engines[0].open(f"due-{number}", policy=policy)
    with Callers(engines) as callers:
        assert callers.goes_on()
        broker.kill()
        assert eventually(lambda: all(engine.health() for engine in engines)), "what goes wrong is said"
        with pytest.raises((LogUnavailable, OutcomeUnknown)):
            engines[0].open("during")
        assert eventually(lambda: engines[0].get("due-1") is None), "what is due is not seen alive, announced or not"
        broker.start()
        assert callers.goes_on()
    assert eventually(lambda: not any(key.startswith("due-") for key in live_in(engines[0])))
    check(url, engines, callers)


def test_a_node_of_three_is_killed_under_load(own_kafka_cluster: OwnCluster, opened: OpenEngine) -> None:
    cluster = own_kafka_cluster(3)
    url = new_url(cluster.address, PARTITIONS)
    engines = [opened(url), opened(url)]
    with Callers(engines) as callers:
        assert callers.goes_on()
        for kill in (kill_leader, kill_leader_while_it_is_alone):
            calm_s, callers.largest_gap_s = callers.largest_gap_s, 0.0
            node = kill(url, cluster)
            assert callers.goes_on(), [each.health() for each in engines]
            node.start()
            assert eventually(lambda: is_whole(url), 2 * PATIENCE_S)
            gap_s = callers.largest_gap_s
            _logger.info("node %s killed: appends paused for %.2f s; %.2f s before", node.node_id, gap_s, calm_s)
            assert gap_s < PAUSED_AT_MOST_S
        assert callers.goes_on()
    check(url, engines, callers)


def kill_leader(url: str, cluster: Cluster) -> Node:
    """Kill the node that leads the first partition."""
    leader = leader_of(url, cluster)
    leader.kill()
    return leader


def kill_leader_while_it_is_alone(url: str, cluster: Cluster) -> Node:
    """The same, when it alone has what was written last: none of that may have been acknowledged."""
    leader = leader_of(url, cluster)
    others = [java_of(node.pid) for node in cluster.nodes if node is not leader and node.pid is not None]
    log = KafkaLog(parse_kafka_url(url))
    log.append([Message(0, "alone", b"when all are there")])
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        written = log.append_soon([Message(0, "alone", b"when the others stand still")])
        with pytest.raises(TimeoutError):
            written.result(ALONE_S)
        leader.kill()
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
    with suppress(OutcomeUnknown, LogUnavailable):
        written.result(PATIENCE_S)
    log.close()
    return leader


def leader_of(url: str, cluster: Cluster) -> Node:
    """The node that leads the first partition."""
    with administering(url) as (admin, kafka_url):
        (found,) = admin.describe_topics([kafka_url.topic])
    (first,) = (part for part in found["partitions"] if part["partition_index"] == 0)
    (leader,) = (node for node in cluster.nodes if node.node_id == first["leader_id"])
    return leader


def is_whole(url: str) -> bool:
    """Whether every replica of the log and of the topics beside it has caught up."""
    with administering(url) as (admin, kafka_url):
        topics = [describe(admin, kafka_url, kafka_url.topic + suffix) for suffix in ("", FACTS, STATE)]
    return all(topic is not None and topic.in_sync == topic.replication == 3 for topic in topics)

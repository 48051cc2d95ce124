"""A partition is served at every moment while engines come and go: it moves when its next owner has caught up."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import lastseen
from lastseen.engine.errors import NotOwner
from tests.kafka.filling import fill
from tests.kafka.kafka_topics import eventually, new_url
from tests.kafka_fixtures import SharedBroker
from tests.patience import PATIENCE_S

PARTITIONS = 4
ALL = frozenset(range(PARTITIONS))
KEYS = [f"key-{number}" for number in range(40)]
BIG_RECORDS = 15_000
OpenEngine = Callable[..., lastseen.Engine]


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    """A log of the test's own, with the topics beside it."""
    return new_url(kafka_broker.address, PARTITIONS)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[OpenEngine]:
    """Opens engines that hold what they own and what they keep for others."""
    engines: list[lastseen.Engine] = []

    def open_one(url: str, name: str, **settings: Any) -> lastseen.Engine:
        chosen = {"view": "owned", "address": f"{name}:8321", "snapshot": str(tmp_path / f"{name}.snapshot")}
        engines.append(lastseen.open_engine(url, **(chosen | settings)))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.shutdown()


def share_evenly(*engines: lastseen.Engine) -> bool:
    """Whether each partition has one owner, and each engine its share."""
    owned = sorted(number for engine in engines for number in engine.owned())
    return owned == list(range(PARTITIONS)) and min(len(engine.owned()) for engine in engines) > 0


def serves(engine: lastseen.Engine, key: str) -> bool:
    """Whether an engine answers for a key, with the session that lives there."""
    try:
        return engine.get(key) is not None
    except NotOwner:
        return False


class Watch(threading.Thread):
    """Asks every engine for every key, again and again, and notes each key that none answers for."""

    def __init__(self, keys: Sequence[str], *engines: lastseen.Engine) -> None:
        super().__init__(daemon=True)
        self.engines = list(engines)
        self.rounds = 0
        self.unserved: list[str] = []
        self._keys, self._is_over = keys, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._is_over.wait(0.001):
            self.unserved += [key for key in self._keys if not any(serves(each, key) for each in list(self.engines))]
            self.rounds += 1

    def end(self) -> list[str]:
        """The keys that no engine answered for at some moment."""
        self._is_over.set()
        self.join(PATIENCE_S)
        assert self.rounds > 10
        return self.unserved


@pytest.mark.parametrize("standbys", [0, 1])
def test_scaling_out_without_a_snapshot_is_no_outage(url: str, opened: OpenEngine, standbys: int) -> None:
    keys = fill(url, PARTITIONS, BIG_RECORDS)
    one = opened(url, "one", standbys=standbys)
    assert eventually(lambda: one.held() == ALL)
    watch = Watch(keys, one)
    two = opened(url, "two", standbys=standbys)
    watch.engines.append(two)
    assert eventually(lambda: share_evenly(one, two))
    assert eventually(lambda: one.held() == (ALL if standbys else one.owned()))
    assert watch.end() == []
    assert two.held() == (ALL if standbys else two.owned())


def test_a_partition_stays_with_its_owner_until_the_next_one_has_caught_up(url: str, opened: OpenEngine) -> None:
    keys = fill(url, PARTITIONS, 2_000)
    one = opened(url, "one")
    assert eventually(lambda: one.held() == ALL)
    two = opened(url, "two", acceptable_lag=0)
    may_read = threading.Event()
    read = two._follower._log.read

    def slow(*what: Any) -> Any:
        assert may_read.wait(PATIENCE_S)
        return read(*what)

    two._follower._log.read = slow  # type: ignore[method-assign]
    assert eventually(lambda: two.partitions().standby == ALL)
    assert one.owned() == ALL
    assert two.owned() == two.held() == frozenset()
    assert all(serves(one, key) for key in keys)
    assert "keeps 0 of 4 ready" in str(next(each for each in lastseen_checks(two) if each.name == "partitions").says)
    may_read.set()
    assert eventually(lambda: share_evenly(one, two))


def lastseen_checks(engine: lastseen.Engine) -> list[Any]:
    """What readiness says."""
    from lastseen.monitoring.readiness import checks

    return list(checks(engine))


def test_sessions_are_counted_by_their_owners_and_answered_by_all_who_hold_them(url: str, opened: OpenEngine) -> None:
    one, two, three = (opened(url, name) for name in ("one", "two", "three"))
    engines = (one, two, three)
    assert eventually(lambda: share_evenly(*engines))
    assert eventually(lambda: sum(len(engine.held()) for engine in engines) == 2 * PARTITIONS)
    for number, key in enumerate(KEYS):
        next(each for each in engines[number % 3 :] + engines if one.partition_of(key) in each.held()).open(key)
    assert eventually(lambda: sum(engine.count() for engine in engines) == len(KEYS))
    listed = [session.key for engine in engines for session in engine.list().sessions]
    assert sorted(listed) == sorted(KEYS)
    assert sum(engine.statistics()["created"] for engine in engines) == len(KEYS)
    for key in KEYS:
        assert eventually(lambda key=key: sum(serves(engine, key) for engine in engines) == 2)


def test_a_standby_answers_before_and_after_its_owner_is_killed(url: str, opened: OpenEngine) -> None:
    script = (
        "import sys, lastseen, time\n"
        "engine = lastseen.open_engine(sys.argv[1], view='owned', address='gone:1', snapshot=':memory:')\n"
        "while len(engine.held()) < 4: time.sleep(0.02)\n"  # waits: for its share
        "for number in range(40): engine.open(f'key-{number}')\n"
        "print('opened', flush=True); sys.stdin.readline()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "opened\n"
        one = opened(url, "one")
        assert eventually(lambda: len(one.owned()) == PARTITIONS // 2 and one.held() == ALL)
        assert eventually(lambda: all(serves(one, key) for key in KEYS))
        watch = Watch(KEYS, one)
        child.kill()
        assert eventually(lambda: one.owned() == ALL)
        assert watch.end() == []
    finally:
        child.kill()
        child.communicate()

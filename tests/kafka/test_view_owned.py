"""Engines that hold only what they own: each answers for its own partitions, and names the owner of the others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import eventually, new_url

import lastseen
from lastseen.engine.errors import LogMismatch, NotOwner, OwnerState, SnapshotError
from lastseen.engine.log.kafka.owner_lookup import owners_of
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.shared_log import Owner
from lastseen.projections.snapshot import Snapshot
from tests.kafka_fixtures import SharedBroker

PARTITIONS = 4
ALL = frozenset(range(PARTITIONS))
KEYS = [f"key-{number}" for number in range(40)]
OpenEngine = Callable[..., lastseen.Engine]


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    """A log of the test's own, with the topics beside it."""
    return new_url(kafka_broker.address, PARTITIONS)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[OpenEngine]:
    """Opens engines that hold what they own, each with a snapshot of its own by its name."""
    engines: list[lastseen.Engine] = []

    def open_one(url: str, name: str, **settings: Any) -> lastseen.Engine:
        snapshot = str(tmp_path / f"{name}.snapshot")
        chosen = {"view": "owned", "standbys": 0, "address": f"{name}:8321", "snapshot": snapshot}
        engines.append(lastseen.open_engine(url, **(chosen | settings)))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.shutdown()


def hold_all(*engines: lastseen.Engine) -> bool:
    """Whether they hold everything between them, each something, and nothing twice."""
    held = sorted(number for engine in engines for number in engine.held())
    return held == list(range(PARTITIONS)) and all(engine.held() for engine in engines)


def answering(key: str, *engines: lastseen.Engine) -> lastseen.Engine:
    """The one that answers for a key."""
    (found,) = [each for each in engines if each._views.number_of(key) in each.held()]
    return found


def test_each_answers_for_its_own_and_names_the_others(url: str, opened: OpenEngine) -> None:
    one, two = opened(url, "one"), opened(url, "two")
    assert eventually(lambda: hold_all(one, two))
    for key in KEYS:
        owner = answering(key, one, two)
        other = two if owner is one else one
        session = owner.open(key, attributes={"key": key})
        assert owner.get(key) is not None
        for refused in (other.get, other.open, other.touch, other.close, other.history, other.explain):
            with pytest.raises(NotOwner, match="which this engine does not serve"):
                refused(key)
        (result,) = other.touch_many([key])
        assert isinstance(result, NotOwner)
        assert owner.touch(key).session_id == session.session_id
        name = "one" if owner is one else "two"
        assert eventually(lambda name=name, key=key, other=other: address_by(other, key) == f"{name}:8321")
    assert eventually(lambda: one.count() + two.count() == len(KEYS))
    assert min(one.count(), two.count()) > 0
    for engine in (one, two):
        for partition in engine._views.partitions:
            assert (len(partition) > 0) == (partition.number in engine.held()), "what it does not hold takes no memory"


def owners_by(engine: lastseen.Engine) -> set[tuple[str, str | None]]:
    """What an engine says of the owners of the partitions that it does not serve."""
    found = set()
    for key in KEYS:
        try:
            engine.get(key)
        except NotOwner as error:
            found.add((error.owner.value, error.address))
    return found


def test_a_vacancy_is_distinguished_from_an_owner_that_is_not_known_and_from_one_without_an_address(
    url: str, opened: OpenEngine
) -> None:
    place = parse_kafka_url(url)
    vacant = dict.fromkeys(range(PARTITIONS), Owner(OwnerState.VACANT))
    assert owners_of(place, f"{place.topic}.owners", PARTITIONS) == vacant, "no engine has joined"
    one, two = opened(url, "one"), opened(url, "two", address=None)
    assert eventually(lambda: hold_all(one, two))
    assert owners_by(two) <= {("unknown", None), ("known", "one:8321")}, "the first answer waits for no request"
    assert eventually(lambda: owners_by(two) == {("known", "one:8321")})
    assert eventually(lambda: owners_by(one) == {("unnamed", None)})
    one._views.served -= one.owned()
    assert ("loading", None) in owners_by(one)


def address_by(engine: lastseen.Engine, key: str) -> str | None:
    """The address in the error for a key."""
    with pytest.raises(NotOwner) as caught:
        engine.get(key)
    return caught.value.address


def test_what_one_drops_the_other_takes_up_and_the_other_way_round(url: str, opened: OpenEngine) -> None:
    one = opened(url, "one")
    assert eventually(lambda: hold_all(one))
    ids = {key: one.open(key, attributes={"key": key}).session_id for key in KEYS}
    for key in KEYS[:10]:
        one.touch(key, message={"said": key})
    two = opened(url, "two")
    assert eventually(lambda: hold_all(one, two))
    for key in KEYS:
        session = answering(key, one, two).get(key)
        assert session is not None
        assert session.session_id == ids[key]
        assert session.attributes == {"key": key}
    for key in KEYS[:10]:
        owner = answering(key, one, two)
        assert [message.value for message in owner.messages(key)] == [{"said": key}]
        owner.touch(key)
    two.shutdown()
    assert eventually(lambda: hold_all(one))
    for number, key in enumerate(KEYS):
        session = one.get(key)
        assert session is not None
        assert (session.session_id, session.version) == (ids[key], 3 if number < 10 else 1)
        assert session.attributes == {"key": key}
        assert len(one.messages(key)) == (1 if number < 10 else 0)
        assert len(one.history(key)) == session.version


def test_digests_are_those_of_an_engine_that_holds_everything(url: str, opened: OpenEngine) -> None:
    one, two = opened(url, "one"), opened(url, "two")
    assert eventually(lambda: hold_all(one, two))
    for key in KEYS:
        owner = answering(key, one, two)
        owner.open(key)
        owner.touch(key)
        owner.close(key)
    with lastseen.open_engine(url, prune=False, facts=False, background=False) as whole:
        wanted = whole.checkpoints()
    for engine in (one, two):
        for number in engine.held():
            assert engine.checkpoints()[number] == wanted[number]


def test_expiries_are_announced_by_the_engine_that_holds_the_session(url: str, opened: OpenEngine) -> None:
    one, two = opened(url, "one"), opened(url, "two")
    assert eventually(lambda: hold_all(one, two))
    for key in KEYS:
        answering(key, one, two).open(key, policy=lastseen.policy(idle_ttl="1s"))
    assert eventually(lambda: one.count() == two.count() == 0)
    assert one.statistics()["ended"]["idle"] + two.statistics()["ended"]["idle"] == len(KEYS)


def test_a_killed_owners_sessions_are_taken_up(url: str, opened: OpenEngine) -> None:
    script = (
        "import sys, lastseen, time\n"
        "engine = lastseen.open_engine(sys.argv[1], view='owned', address='gone:1', snapshot=sys.argv[2])\n"
        "while len(engine.held()) < 4: time.sleep(0.02)\n"  # waits: for its share
        "for number in range(40): engine.open(f'key-{number}')\n"
        "print('opened', flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", script, url, ":memory:"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "opened\n"
        one = opened(url, "one")
        with pytest.raises(NotOwner):
            [one.get(key) for key in KEYS]
    finally:
        child.kill()
        child.communicate()
    assert eventually(lambda: hold_all(one))
    assert all(one.get(key) is not None for key in KEYS)


def test_a_restart_takes_up_what_the_snapshot_has(url: str, opened: OpenEngine) -> None:
    one = opened(url, "one")
    assert eventually(lambda: hold_all(one))
    for key in KEYS:
        one.open(key)
    one.shutdown()
    again = opened(url, "one")
    assert eventually(lambda: hold_all(again))
    assert again.count() == len(KEYS)
    assert again.statistics()["created"] == len(KEYS)
    again.flush()


def test_a_partition_that_cannot_be_taken_up_keeps_no_other_waiting(
    url: str, opened: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, refused = Snapshot.load, {1: SnapshotError("the disk does not answer"), 2: LogMismatch("snapshot is ahead")}

    def load_or_refuse(snapshot: Snapshot, partitions: Any, *more: Any) -> int:
        for partition in partitions:
            if partition.number in refused:
                raise refused[partition.number]
        return load(snapshot, partitions, *more)

    monkeypatch.setattr(Snapshot, "load", load_or_refuse)
    one = opened(url, "one")
    assert eventually(lambda: one.held() == {0, 2, 3})
    assert eventually(lambda: "load" in one.health())
    assert list(one.partitions().failed) == [2]
    by_partition = {one.partition_of(key): key for key in KEYS}
    for number in (0, 3):
        assert one.open(by_partition[number]) is not None
    with pytest.raises(LogMismatch, match="snapshot is ahead"):
        one.get(by_partition[2])
    with pytest.raises(NotOwner):
        one.get(by_partition[1])
    del refused[1]
    assert eventually(lambda: one.held() == ALL)
    assert one.open(by_partition[1]) is not None
    assert eventually(lambda: "load" not in one.health())


def test_on_a_log_of_one_machine_everything_is_owned(tmp_path: Path) -> None:
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'log.db'}", view="owned", partitions=3) as engine:
        assert engine.held() == engine.owned() == frozenset({0, 1, 2})
        assert engine.owner_of("ana") is None
        engine.open("ana")

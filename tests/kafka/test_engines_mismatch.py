"""The topic is not what the engine has folded any more: it stops, says what happened, and begins nothing anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import TopicPartition

import lastseen
from lastseen.engine.errors import LogError, LogMismatch, LogUnavailable, SnapshotError
from lastseen.engine.log.kafka.new_log import create_log
from lastseen.engine.log.kafka.topic import NewTopics
from lastseen.engine.log.kafka.url import FACTS, STATE, parse_kafka_url
from tests.kafka import chaos_engine
from tests.kafka.kafka_topics import administering, eventually, new_url
from tests.kafka.processes import Child
from tests.kafka.published import refold
from tests.kafka_fixtures import SharedBroker

PARTITIONS = 2
QUICK = "?delivery_timeout_ms=3000"
"""An append to a topic that is gone is given up so soon."""
GONE = r"the records before offset \d+ were deleted.*start from a snapshot that was taken after.*retention"
Mishap = Callable[[str], None]


def delete(url: str) -> None:
    """An operator deletes the topics."""
    with administering(url) as (admin, kafka_url):
        topics = [kafka_url.topic, kafka_url.topic + FACTS, kafka_url.topic + STATE]
        admin.delete_topics(topics)
        assert eventually(lambda: not set(topics) & set(admin.list_topics()))


def make_anew(url: str) -> None:
    """An operator deletes the topics and makes them again, as they were."""
    delete(url)
    create_log(parse_kafka_url(url), NewTopics(PARTITIONS))


def add_partitions(url: str) -> None:
    """An operator adds a partition to each topic."""
    with administering(url) as (admin, kafka_url):
        admin.create_partitions({kafka_url.topic + suffix: PARTITIONS + 1 for suffix in ("", FACTS, STATE)})


MISHAPS = [
    (delete, r"has been deleted|the topic does not exist", r"the topic does not exist; make it with"),
    (
        make_anew,
        r"recreated.*delete the snapshot|has been deleted|the topic does not exist",
        r"belongs to log .* and this is log .* delete the file",
    ),
    (
        add_partitions,
        r"has 3 partitions now, and had 2.*Copy the log into a new topic",
        r"has 3 partitions, and the genesis record of partition 0 says 2: .*lastseen log copy",
    ),
]
named = pytest.mark.parametrize(
    ("mishap", "says", "says_at_start"), MISHAPS, ids=[each[0].__name__ for each in MISHAPS]
)


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    """A log of the test's own."""
    return new_url(kafka_broker.address, PARTITIONS)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Where the engine keeps its snapshot."""
    return tmp_path / "engine.snapshot"


@pytest.fixture
def engine(url: str, snapshot: Path) -> Iterator[lastseen.Engine]:
    """An engine that has lived for a while."""
    with lastseen.open_engine(url + QUICK, snapshot=str(snapshot), snapshot_interval=100) as engine:
        for number in range(40):
            engine.open(f"key-{number}")
        engine.flush()
        yield engine


def refusal_of(call: Callable[[], object]) -> str:
    """What a call is refused with, if it is; empty where it succeeds or the broker only does not answer."""
    try:
        call()
    except LogMismatch as error:
        return str(error)
    except LogError:
        return ""
    return ""


@named
def test_a_running_engine_stops_for_good(
    url: str, engine: lastseen.Engine, snapshot: Path, mishap: Mishap, says: str, says_at_start: str
) -> None:
    before = engine.checkpoints()
    mishap(url)
    assert eventually(lambda: re.search(says, refusal_of(lambda: engine.touch("key-1"))) is not None)
    # No call is needed: the engine itself has found out, and from then on returns nothing it cannot be sure of.
    assert eventually(lambda: any(re.search(says, str(error)) for error in engine.health().values()))
    for use in (lambda: engine.open("new"), lambda: engine.get("key-1"), engine.list, engine.refresh, engine.prune):
        assert eventually(lambda use=use: re.search(says, refusal_of(use)) is not None), use
    assert all(engine.checkpoints()[number][0] >= checkpoint for number, (checkpoint, _) in before.items())
    engine.shutdown()
    if mishap is make_anew:
        assert [partition.checkpoint for partition in refold(url)] == [1, 1], "nothing is written to the new one"
    check_start(url, snapshot, says_at_start)


@named
def test_an_engine_that_was_down_does_not_start(
    url: str, engine: lastseen.Engine, snapshot: Path, mishap: Mishap, says: str, says_at_start: str
) -> None:
    engine.shutdown()
    mishap(url)
    check_start(url, snapshot, says_at_start)


def check_start(url: str, snapshot: Path, says: str) -> None:
    """An engine does not start from the snapshot, says why each time, and leaves the snapshot as it is."""
    before = snapshot.read_bytes()
    for _ in range(2):
        with pytest.raises((LogMismatch, LogUnavailable, SnapshotError), match=says):
            lastseen.open_engine(url, snapshot=str(snapshot))
    assert snapshot.read_bytes() == before


def test_records_deleted_past_the_checkpoint_of_an_engine_that_was_down(
    url: str, engine: lastseen.Engine, snapshot: Path, tmp_path: Path
) -> None:
    other = lastseen.open_engine(url, snapshot=str(tmp_path / "other.snapshot"), facts=False, prune=False)
    engine.shutdown()
    delete_most(url, other)
    check_start(url, snapshot, GONE)
    for fresh in (None, str(tmp_path / "fresh.snapshot")):
        with pytest.raises(LogMismatch, match=GONE):
            lastseen.open_engine(url, snapshot=fresh)
    # An engine that was past them continues, and so does its snapshot.
    other.touch("key-1")
    digests = other.checkpoints()
    other.shutdown()
    with lastseen.open_engine(url, snapshot=str(tmp_path / "other.snapshot"), facts=False, prune=False) as again:
        assert again.notes == []
        assert again.checkpoints() == digests


def test_records_deleted_past_the_checkpoint_of_a_running_engine(url: str, engine: lastseen.Engine) -> None:
    behind = Child(chaos_engine.live, url, {})
    try:
        behind.start()
        behind.wait_until_open()
        behind.freeze()
        ends = delete_most(url, engine)
        behind.thaw()
        assert eventually(lambda: any(re.search(GONE, each) for each in behind.ask().health), 10)
        # The broker may have had some records on their way to it when it stood still; it has passed over none.
        checkpoints = [at for at, _ in behind.ask().checkpoints.values()]
        assert any(at < end - 5 for at, end in zip(checkpoints, ends, strict=True))
    finally:
        behind.kill()


def delete_most(url: str, writer: lastseen.Engine) -> list[int]:
    """Write some, and delete all but the last five of each partition; where each ends."""
    for _ in range(10):
        for number in range(40):
            writer.touch(f"key-{number}")
    ends = [checkpoint for checkpoint, _ in writer.checkpoints().values()]
    with administering(url) as (admin, kafka_url):
        admin.delete_records({TopicPartition(kafka_url.topic, number): end - 5 for number, end in enumerate(ends)})
    return ends

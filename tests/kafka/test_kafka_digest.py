"""The same history gives the same state, wherever it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka_fixtures import SharedBroker
from kafka_topics import Open, new_topic, records

import lastseen
from lastseen.projections.partition import Partition
from lastseen.replay.recording import SLICE
from lastseen.replay.replay import replay

pytestmark = pytest.mark.thorough


def test_a_replay_gives_the_same_digest_on_sqlite_and_on_kafka(
    opened: Open, kafka_broker: SharedBroker, tmp_path: Path
) -> None:
    kafka, sqlite = new_topic(kafka_broker.address), f"sqlite:///{tmp_path / 'chat.db'}"
    on_kafka, on_sqlite = replay(SLICE, kafka), replay(SLICE, sqlite)
    assert on_kafka.figures == on_sqlite.figures
    assert on_kafka.appended > 40_000
    digests = []
    for url in (kafka, sqlite):
        with lastseen.open_engine(url, background=False, facts=False, snapshot=":memory:") as engine:
            digests.append(engine.checkpoints())
            assert engine.statistics()["live"] == on_sqlite.figures.live
    assert digests[0] == digests[1]
    assert digests[0][0][0] == on_kafka.appended
    # Nothing of it depends on how it was read.
    folded = Partition(0)
    for record in records(opened(kafka), window=777):
        folded.fold(record)
    assert (folded.checkpoint, folded.digest.hex()) == digests[0][0]

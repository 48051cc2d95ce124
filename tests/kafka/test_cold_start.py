"""A start without a snapshot on a real broker: what is published stays out of the outbox, and the file stays small."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import eventually, new_url

import lastseen
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.errors import LogUnavailable
from lastseen.engine.identifiers import new_event_ids
from lastseen.engine.log.kafka.url import FACTS
from lastseen.engine.log.port import Message
from lastseen.engine.plain_touch import written
from tests.kafka.kafka_topics import write_foreign
from tests.kafka.test_strange_facts import complete, forged
from tests.kafka_fixtures import SharedBroker

PARTITIONS = 2
TOUCHES = 6_000
MEGABYTE = 1024 * 1024


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    return new_url(kafka_broker.address, PARTITIONS)


def touch(engine: lastseen.Engine, count: int) -> None:
    """So many touches of a few sessions, appended in batches, and folded."""
    keys = [f"key-{number}" for number in range(8)]
    sessions = [engine.open(key) for key in keys]
    now_ms = engine.now_ms()
    messages = [
        Message(
            engine.partition_of(keys[n % len(keys)]),
            keys[n % len(keys)],
            written(event_id, "/test", keys[n % len(keys)], iso_from_ms(now_ms), sessions[n % len(keys)].session_id),
        )
        for n, event_id in enumerate(new_event_ids(now_ms, count))
    ]
    for start in range(0, count, 1_000):
        engine._log.append(messages[start : start + 1_000])
    engine.refresh()


def published(engine: lastseen.Engine) -> bool:
    """Whether an engine has published all that it has folded."""
    outbox = engine._state.outbox
    assert outbox is not None
    return all(outbox.pending(number) <= 1 for number in range(PARTITIONS))


def rows_of_outbox(snapshot: Path) -> int:
    with closing(sqlite3.connect(snapshot)) as connection:
        return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])


def test_a_start_from_the_log_keeps_nothing_of_what_is_published(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastseen.embedded.maintenance.HEAVY_AT_START", 1_000)
    snapshot = tmp_path / "one.snapshot"
    with lastseen.open_engine(url) as one:
        touch(one, TOUCHES)
        assert eventually(lambda: len(one.owned()) == PARTITIONS and published(one))
    with lastseen.open_engine(url, snapshot=str(snapshot), background=False) as again:
        assert published(again)
        again.flush()
        assert rows_of_outbox(snapshot) <= PARTITIONS, "the last one of each partition"
        assert snapshot.stat().st_size < MEGABYTE
        touch(again, 10)
    with lastseen.open_engine(url, snapshot=str(snapshot)) as third:
        assert eventually(lambda: len(third.owned()) == PARTITIONS and published(third))
        assert third._duties._publisher.refolded == 0  # type: ignore[union-attr]
    assert complete(url)


def test_a_forged_fact_makes_a_start_from_the_log_lose_no_fact(url: str) -> None:
    with lastseen.open_engine(url) as one:
        touch(one, 100)
        assert eventually(lambda: len(one.owned()) == PARTITIONS and published(one))
    with lastseen.open_engine(url, facts=False, prune=False) as silent:
        touch(silent, 100)
        ends = silent.log_ends()
    for number, end in enumerate(ends):
        write_foreign(url + FACTS, [(b"key-1", forged(url, number, end - 10))], number)
    with lastseen.open_engine(url) as again:
        assert eventually(lambda: complete(url))
        assert again.health() == {}


def test_a_start_saves_no_outbox_and_what_was_never_published_is(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastseen.embedded.maintenance.HEAVY_AT_START", 1_000)
    snapshot = tmp_path / "one.snapshot"
    with lastseen.open_engine(url, facts=False, prune=False) as silent:
        touch(silent, TOUCHES)
    first = lastseen.open_engine(url, snapshot=str(snapshot), background=False)
    assert snapshot.stat().st_size < MEGABYTE
    assert rows_of_outbox(snapshot) == 0
    first._state.close()  # it dies before it has published anything
    first._log.close()
    first._duties.close()
    with lastseen.open_engine(url, snapshot=str(snapshot)) as again:
        assert eventually(lambda: complete(url))
        assert again.health() == {}


def test_the_file_shrinks_once_what_it_kept_is_published(url: str, tmp_path: Path) -> None:
    snapshot = tmp_path / "one.snapshot"
    with lastseen.open_engine(url, snapshot=str(snapshot), snapshot_interval="50ms") as engine:
        assert eventually(lambda: len(engine.owned()) == PARTITIONS)
        fact_publisher: Any = engine._duties._fact_publisher
        publish = fact_publisher.publish_facts

        def refuse(*_: Sequence[object]) -> None:
            raise LogUnavailable("the topic of facts takes nothing")

        fact_publisher.publish_facts = refuse
        touch(engine, TOUCHES)
        engine.flush()
        grown = snapshot.stat().st_size
        assert rows_of_outbox(snapshot) >= TOUCHES
        assert grown > 5 * MEGABYTE
        fact_publisher.publish_facts = publish
        assert eventually(lambda: published(engine))
        assert eventually(lambda: rows_of_outbox(snapshot) <= PARTITIONS), "also while nothing else is to be written"
        assert eventually(lambda: snapshot.stat().st_size < grown / 3)
        assert engine.health() == {}

"""The genesis records of a topic: `topics create` writes them, completes what it finds, and refuses other topics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kafka_fixtures import SharedBroker
from kafka_topics import Open, administering, new_topic, new_url, write_foreign
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.copying.copy import copy_between
from lastseen.engine.errors import LogMismatch, NoGenesis
from lastseen.engine.genesis import check_genesis, genesis, genesis_of, genesis_records
from lastseen.engine.log.kafka.new_log import write_genesis
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.port import Log

PARTITIONS = 3
AT_MS = 1_700_000_000_000


def create(url: str, *options: str, partitions: int = PARTITIONS, exit_code: int = 0) -> str:
    """Run `topics create`; returns what it says on stderr."""
    result = CliRunner().invoke(app, ["topics", "create", "--log", url, "--partitions", str(partitions), *options])
    assert result.exit_code == exit_code, (result.stdout, result.stderr)
    return result.stderr


def says_of(log: Log) -> list[Any]:
    """What the first record of each partition says of the log."""
    return [genesis_of(log.read(number, 0, 1)[0]) for number in range(log.partitions)]


@pytest.fixture
def url(kafka_broker: SharedBroker) -> str:
    """A log whose topics were made, and nothing else."""
    return new_topic(kafka_broker.address, PARTITIONS)


def test_a_topic_that_is_empty_is_completed(url: str, opened: Open) -> None:
    with pytest.raises(NoGenesis, match=r"partition 0 .* is empty.*run lastseen topics create again"):
        lastseen.open_engine(url)
    with pytest.raises(NoGenesis, match=r"is empty.*run lastseen topics create again"):
        lastseen.Emitter(url, source="/reports")
    log = opened(url)
    assert log.end_offsets() == [0] * PARTITIONS, "neither wrote"
    create(url)
    assert log.end_offsets() == [1] * PARTITIONS
    assert [(each.log_id, each.partitions, each.imports) for each in says_of(log)] == [
        (log.identity, PARTITIONS, False)
    ] * PARTITIONS  # fmt: skip
    create(url)
    assert log.end_offsets() == [1] * PARTITIONS
    with lastseen.open_engine(url) as engine:
        engine.open("ana")


def test_a_topic_that_is_half_made_is_completed_as_the_same_log(url: str, opened: Open) -> None:
    log = opened(url)
    log.append(genesis_records("chosen before", PARTITIONS, AT_MS)[1:2])
    with pytest.raises(NoGenesis, match=r"partition 0 .* is empty"):
        lastseen.open_engine(url)
    create(url)
    assert log.end_offsets() == [1] * PARTITIONS
    assert check_genesis(log) == "chosen before"


def test_two_programs_that_complete_a_topic_at_once_make_one_log(
    url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(url)
    ends = log.end_offsets()
    assert write_genesis(parse_kafka_url(url)) == PARTITIONS
    with monkeypatch.context() as patch:
        patch.setattr("lastseen.engine.log.kafka.new_log.KafkaLog", lambda _: Late(opened(url), ends))
        assert write_genesis(parse_kafka_url(url)) == PARTITIONS, "it had looked before the other wrote"
    assert check_genesis(log) == log.identity
    with lastseen.open_engine(url, background=False) as engine:
        assert engine.statistics()["applied"] == {"opened": PARTITIONS}
        assert engine.statistics()["void"] == {"already": PARTITIONS}


class Late:
    """A log whose end offsets were asked for a moment before another program appended."""

    def __init__(self, log: Log, ends: list[int]) -> None:
        self._log, self._ends = log, [ends]

    def end_offsets(self) -> list[int]:
        return self._ends.pop() if self._ends else self._log.end_offsets()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def test_a_topic_that_holds_anything_else_is_refused(url: str, opened: Open) -> None:
    write_foreign(url, [(b"ana", b"no event")], 2)
    with pytest.raises(NoGenesis, match=r"partition 2 .* does not begin with a genesis record"):
        lastseen.open_engine(url)
    assert "partition 2 holds records and does not begin with a genesis record" in create(url, exit_code=4)
    assert opened(url).end_offsets() == [0, 0, 1]


def test_a_topic_that_grew_is_refused_and_not_completed(kafka_broker: SharedBroker, opened: Open) -> None:
    url = new_url(kafka_broker.address, 2)
    with administering(url) as (admin, kafka_url):
        admin.create_partitions({kafka_url.topic + suffix: 3 for suffix in ("", ".facts", ".state")})
    with pytest.raises(LogMismatch, match=r"has 3 partitions, and the genesis record of partition 0 says 2"):
        lastseen.open_engine(url)
    assert "partitions cannot be added" in create(url, exit_code=4)
    assert opened(url).end_offsets() == [1, 1, 0]


def test_an_import_target_stays_empty_and_takes_a_copy(
    kafka_broker: SharedBroker, opened: Open, tmp_path: Path
) -> None:
    source, url = f"sqlite:///{tmp_path / 'log.db'}", new_topic(kafka_broker.address, 2)
    with lastseen.open_engine(source) as engine:
        engine.open("ana")
    create(url, "--for-import", partitions=2)
    log = opened(url)
    assert log.end_offsets() == [0, 0]
    assert copy_between(source, url).differing == 0
    ends = log.end_offsets()
    create(url, partitions=2)
    assert log.end_offsets() == ends
    with lastseen.open_engine(url) as engine:
        assert engine.get("ana") is not None


def test_an_import_that_has_begun_is_not_completed_by_others(url: str, opened: Open) -> None:
    log = opened(url)
    log.append([genesis("import", 0, PARTITIONS, AT_MS, source="/import", event_id="import-0", imports=True)])
    assert "Start the import again" in create(url, exit_code=4)
    assert log.end_offsets() == [1, 0, 0]


def test_an_engine_starts_without_the_genesis_records_that_were_deleted(
    kafka_broker: SharedBroker, tmp_path: Path
) -> None:
    url, chosen = new_url(kafka_broker.address), {"snapshot": str(tmp_path / "s"), "background": False}
    with lastseen.open_engine(url, **chosen) as engine:
        engine.open("ana")
        engine.flush()
        log_id = engine._views.partitions[0].log_id
    with administering(url) as (admin, kafka_url):
        from kafka import TopicPartition

        admin.delete_records({TopicPartition(kafka_url.topic, 0): 2})
    with lastseen.open_engine(url, **chosen) as engine:
        assert engine.get("ana") is not None
        assert engine._views.partitions[0].log_id == log_id


def test_the_doctor_names_the_partitions(url: str, opened: Open) -> None:
    def finding() -> dict[str, Any]:
        result = CliRunner().invoke(app, ["doctor", "--log", url, "--json"])
        (found,) = (each for each in json.loads(result.stdout)["findings"] if each["check"] == "genesis")
        return dict(found)

    found = finding()
    assert (found["severity"], "partition 0 of the log is empty" in found["says"]) == ("error", True)
    assert "topics create" in found["says"]
    create(url)
    found = finding()
    assert (found["severity"], opened(url).identity in found["says"]) == ("ok", True)

"""`lastseen doctor` on a log whose first records were deleted: findings, and the examination goes on."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka_fixtures import SharedBroker
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.doctor import examine as doctor_examine
from lastseen.doctor.examine import examine
from lastseen.doctor.findings import Severity, Subject
from lastseen.doctor.sqlite_log import SqliteLogFile
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import LogMismatch
from lastseen.engine.log.port import Record

MACHINE = {"disk", "memory"}
"""The checks that follow those of the log."""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of this machine, nor a service on it, has a say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTSEEN_PORT", "0")


def findings(url: str, *arguments: str) -> dict[str, dict[str, Any]]:
    result = CliRunner().invoke(app, ["doctor", "--log", url, "--json", *arguments])
    assert result.exit_code == 1, (result.stdout, result.exception)
    return {each["check"]: each for each in json.loads(result.stdout)["findings"]}


@pytest.fixture
def trimmed(kafka_broker: SharedBroker, tmp_path: Path) -> tuple[str, Path]:
    """A topic whose first records are deleted but for the last three, and a snapshot taken before that."""
    name = f"doctor-{uuid.uuid4().hex}"
    url, snapshot = f"kafka://{kafka_broker.address}/{name}", tmp_path / "kafka.snapshot"
    assert CliRunner().invoke(app, ["topics", "create", "--log", url, "--partitions", "1"]).exit_code == 0
    with lastseen.open_engine(url, snapshot=str(snapshot), background=False, prune=False, facts=False) as engine:
        for number in range(10):
            engine.open(f"key-{number}")
        [end] = [at for at, _ in engine.checkpoints().values()]
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.address)
    admin.delete_records({TopicPartition(name, 0): end - 3})
    admin.close()
    return url, snapshot


def test_deleted_records_are_a_finding(trimmed: tuple[str, Path]) -> None:
    url, snapshot = trimmed
    found = findings(url, "--set", f"snapshot={snapshot}")
    assert found["beginning"]["severity"] == "error"
    assert "partition 0 before offset" in found["beginning"]["says"]
    assert found["beginning"]["next_step"]
    assert found["clocks"]["severity"] == found["producers"]["severity"] == "ok"
    assert found["snapshot"]["severity"] == found["history"]["severity"] == "ok", "it was taken after that"
    assert found["digest"]["severity"] == "note"
    assert "lost the beginning" in found["digest"]["says"]
    assert set(found) >= MACHINE


def test_deleted_records_without_a_snapshot(trimmed: tuple[str, Path], tmp_path: Path) -> None:
    found = findings(trimmed[0], "--set", f"snapshot={tmp_path / 'none.snapshot'}")
    assert found["snapshot"]["severity"] == "error"
    assert "no engine starts on it" in found["snapshot"]["says"]


class Trimmed(SqliteLogFile):
    """A log without its first records; `shows` is where it says that it begins."""

    first = 5
    shows = 5

    @property
    def starts(self) -> list[int]:
        return [self.shows]

    @starts.setter
    def starts(self, _: list[int]) -> None:
        pass

    def read(self, partition: int, from_offset: int, limit: int) -> list[Record]:
        if from_offset < self.first:
            raise LogMismatch(f"the records before offset {self.first} were deleted")
        return super().read(partition, from_offset, limit)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A log of a stand-in that has lost its first records."""
    url = f"sqlite:///{tmp_path / 'log.db'}?partitions=1"
    with lastseen.open_engine(url, background=False) as engine:
        for number in range(10):
            engine.open(f"key-{number}")
    monkeypatch.setattr("lastseen.doctor.sqlite_log.SqliteLogFile", Trimmed)
    monkeypatch.setattr(Trimmed, "first", 5)
    monkeypatch.setattr(Trimmed, "shows", 5)
    return url


def severities(url: str) -> dict[str, Severity]:
    return {each.check: each.severity for each in examine(Subject(url), SystemClock().now_ms())}


def test_no_check_reads_what_is_gone(log: str) -> None:
    found = severities(log)
    assert {check: found[check] for check in ("clocks", "producers", "snapshot", "digest")} == {
        "clocks": Severity.OK, "producers": Severity.OK, "snapshot": Severity.OK, "digest": Severity.NOTE,
    }  # fmt: skip


def test_all_records_are_gone(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trimmed, "first", 11)
    monkeypatch.setattr(Trimmed, "shows", 11)
    assert severities(log)["clocks"] is Severity.NOTE


def test_a_snapshot_from_before_the_beginning(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trimmed, "shows", 12)
    monkeypatch.setattr("lastseen.doctor.sqlite_log.SqliteLogFile", lambda *given: ends_at(Trimmed(*given), 20))
    monkeypatch.setattr(doctor_examine, "clocks", lambda log, now_ms: iter(()))
    found = {each.check: each for each in examine(Subject(log), SystemClock().now_ms())}
    assert found["snapshot"].severity is Severity.ERROR
    assert "the records between are gone" in found["snapshot"].says


def ends_at(log: SqliteLogFile, end: int) -> SqliteLogFile:
    log.ends = [end]
    return log


def test_records_that_are_deleted_during_the_examination(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trimmed, "first", 11)
    monkeypatch.setattr(Trimmed, "shows", 0)
    found = severities(log)
    assert found["clocks"] is Severity.ERROR
    assert found["snapshot"] is Severity.OK
    assert found["digest"] is Severity.WARNING
    assert set(found) >= {"history", "archives", *MACHINE}

"""A partition that cannot be read, or is not what was folded, takes down its own keys and no others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from stage import MIN, Stage

from lastseen import policy
from lastseen.embedded.engine import Engine
from lastseen.engine.errors import LogCorrupt, LogError, LogMismatch, OutcomeUnknown
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Record
from lastseen.engine.log.sqlite.log import SqliteLog
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import SessionView
from lastseen.monitoring.readiness import checks
from lastseen.projections.snapshot_file import SnapshotFile

PARTITIONS, BAD = 3, 1
KEYS = [next(f"k{n}" for n in range(1_000) if partition_of(f"k{n}", PARTITIONS) == part) for part in range(PARTITIONS)]
GOOD = [key for key in KEYS if partition_of(key, PARTITIONS) != BAD]
BAD_KEY = KEYS[BAD]
IDLE = policy(idle_ttl="30m")


def corrupt(_: Sequence[Record]) -> list[Record]:
    """A read that meets damage."""
    raise LogCorrupt(f"partition {BAD}: the batch of records at offset 1 does not match its checksum")


def gone(_: Sequence[Record]) -> list[Record]:
    """A read that finds its records deleted."""
    raise LogMismatch(f"partition {BAD}: the records before offset 9 were deleted")


def gap(records: Sequence[Record]) -> list[Record]:
    """A read that finds another record than the next."""
    return [record._replace(offset=record.offset + 1) for record in records]


Fault = Callable[[Sequence[Record]], Sequence[Record]]


@pytest.fixture(params=["memory", "sqlite"])
def stage(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    """An engine's surroundings, with three partitions."""
    stage = Stage(tmp_path, request.param, PARTITIONS)
    yield stage
    stage.end()


def break_reads(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """From now on, reads of one partition meet a fault."""
    for log in (MemoryLog, SqliteLog):

        def read(
            self: Any, partition: int, offset: int, limit: int, read: Callable[..., Sequence[Record]] = log.read
        ) -> Sequence[Record]:
            records = read(self, partition, offset, limit)
            return fault(records) if partition == BAD and records else records

        monkeypatch.setattr(log, "read", read)


def fail_partition(engine: Engine, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Let the engine meet a fault with its next record of the partition."""
    break_reads(monkeypatch, fault)
    with pytest.raises(OutcomeUnknown, match="is in the log"):
        engine.touch(BAD_KEY)
    assert list(engine.partitions().failed) == [BAD]


@pytest.mark.parametrize("fault", [corrupt, gone, gap])
def test_the_other_partitions_go_on(stage: Stage, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    engine = stage.open()
    for key in KEYS:
        engine.open(key, policy=IDLE)
    fail_partition(engine, monkeypatch, fault)
    ends = engine.log_ends()
    for refused in (
        lambda: engine.touch(BAD_KEY),
        lambda: engine.touch(BAD_KEY, wait="appended"),
        lambda: engine.get(BAD_KEY),
        lambda: engine.history(BAD_KEY),
        lambda: engine.explain(BAD_KEY),
        lambda: engine.close(BAD_KEY),
    ):
        with pytest.raises((LogMismatch, LogCorrupt), match=f"partition {BAD}"):
            refused()
    assert engine.log_ends() == ends, "refused before anything is appended"
    *touched, refusal = engine.touch_many([*GOOD, BAD_KEY])
    assert [isinstance(each, SessionView) for each in touched] == [True, True]
    assert isinstance(refusal, LogError)
    for key in GOOD:
        assert engine.touch(key) is not None
        assert engine.get(key) is not None
    engine.refresh()
    assert engine.obstacle() is None
    assert sorted(session.key for session in engine.list().sessions) == sorted(GOOD)
    assert engine.count() == len(GOOD)
    assert engine.statistics()["failed_partitions"] == [BAD]
    stage.clock.advance(31 * MIN)
    assert sorted(due.key for due in engine.prune().due) == sorted(GOOD)
    assert engine.count() == 0


def test_a_restart_with_one_bad_partition_starts_the_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    if stage.url == "memory://":
        stage = Stage(stage.folder, "sqlite", PARTITIONS)
    first = stage.open(snapshot=":memory:")
    for key in KEYS:
        first.open(key)
    first.shutdown()
    break_reads(monkeypatch, corrupt)
    engine = stage.open(snapshot=":memory:")
    assert sorted(engine.partitions().failed) == [BAD]
    assert [engine.get(key) is not None for key in GOOD] == [True, True]
    with pytest.raises(LogCorrupt):
        engine.get(BAD_KEY)
    stage.end()


def test_a_snapshot_that_is_ahead_of_one_partition_fails_that_one(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "sqlite", PARTITIONS)
    first = stage.open()
    for key in KEYS:
        first.open(key)
        first.touch(key)
    checkpoints = first.checkpoints()
    first.shutdown()
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection, connection:
        cut = "DELETE FROM stored_events WHERE originator_id = ? AND originator_version > 1"
        assert connection.execute(cut, (str(BAD),)).rowcount == 1
    for _ in range(2):
        engine = stage.open()
        assert list(engine.partitions().failed) == [BAD]
        for key in GOOD:
            engine.touch(key)
        ends = engine.log_ends()
        for refused in (engine.get, engine.touch, engine.history):
            with pytest.raises(LogMismatch, match=f"has read partition {BAD} up to offset"):
                refused(BAD_KEY)
        assert engine.log_ends() == ends
        engine.flush()
        engine.shutdown()
    file = SnapshotFile(str(tmp_path / "log.db.snapshot"), first.log_identity, PARTITIONS)
    assert file.partitions()[BAD].checkpoint == checkpoints[BAD][0], "it stays as it is, for when the log is restored"
    file.close()


def test_an_engine_all_of_whose_partitions_fail_stops(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = stage.open()
    for key in KEYS:
        engine.open(key)
    for number, key in enumerate(KEYS):
        monkeypatch.setattr("test_failed_partitions.BAD", number)
        break_reads(monkeypatch, gone)
        with pytest.raises(LogError):
            engine.touch(key)
        monkeypatch.undo()
    assert isinstance(engine.obstacle(), LogMismatch)
    with pytest.raises(LogMismatch):
        engine.list()


@pytest.mark.parametrize("is_strict", [False, True])
def test_readiness_names_the_partition(stage: Stage, monkeypatch: pytest.MonkeyPatch, is_strict: bool) -> None:
    engine = stage.open()
    for key in KEYS:
        engine.open(key)
    fail_partition(engine, monkeypatch, corrupt)
    (check,) = [check for check in checks(engine, is_strict=is_strict) if check.name == "partitions"]
    assert check.says.startswith(f"serves 2 of 3 partitions; partition {BAD} has failed: ")
    assert "checksum" in check.says
    assert (check.ok, check.is_needed) == (False, is_strict)

"""The genesis record: what makes a log writes it, and a log without it is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from stage import T0, Stage

import lastseen
from lastseen import Engine, ManualClock, Settings
from lastseen.engine.errors import LogMismatch, NoGenesis
from lastseen.engine.genesis import SUBJECT, check_genesis, genesis, genesis_of, genesis_records
from lastseen.engine.log import open_log
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Message
from lastseen.engine.log.sqlite import log as sqlite_log
from lastseen.engine.log.sqlite.log import SqliteLog

SETTINGS = Settings.of(background=False)


def test_each_partition_of_a_new_log_begins_with_its_genesis_record(stage: Stage) -> None:
    stage.partitions = 3
    engine = stage.open()
    assert engine.log_ends() == [1, 1, 1]
    for number in range(3):
        says = genesis_of(engine._log.read(number, 0, 1)[0])
        assert says is not None
        assert (says.log_id, says.partition, says.partitions, says.imports) == (engine.log_identity, number, 3, False)
    assert [(part.log_id, part.log_partitions) for part in engine._views.partitions] == [(engine.log_identity, 3)] * 3
    assert engine.statistics()["applied"] == {"opened": 3}
    assert engine.statistics()["void"] == {}


def test_a_log_is_opened_again_as_it_is(on_disk: Stage) -> None:
    on_disk.open().shutdown()
    assert on_disk.open().log_ends() == [1]


def test_an_emitter_makes_a_log_that_an_engine_opens(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.Emitter(url, source="/reports") as emitter:
        emitter.open("ana")
        emitter.flush()
    with lastseen.open_engine(url) as engine:
        assert engine.get("ana") is not None


def test_a_crash_while_a_file_is_made_leaves_no_part_of_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"

    def crash(*_: object) -> list[object]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_log, "first_records", crash)
        with pytest.raises(KeyboardInterrupt):
            SqliteLog(str(path), ManualClock(T0), partitions=2, genesis=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    with closing(SqliteLog(str(path), ManualClock(T0), partitions=3, genesis=True)) as log:
        assert log.end_offsets() == [1, 1, 1]


def test_a_file_that_was_made_without_records_is_completed_by_the_first_engine(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    SqliteLog(str(path), ManualClock(T0), partitions=2).close()
    with lastseen.open_engine(f"sqlite:///{path}", clock=ManualClock(T0), background=False) as engine:
        assert engine.log_ends() == [1, 1]


def raw(*messages: Message) -> Callable[[], MemoryLog]:
    """A log of two partitions that holds just these messages."""

    def make() -> MemoryLog:
        log = MemoryLog(ManualClock(T0), 2)
        log.append(messages)
        return log

    return make


ZERO, ONE = genesis_records("this", 2, T0)
OTHER_ONE = genesis_records("other", 2, T0)[1]
OF_THREE = genesis_records("this", 3, T0)[1]
RUBBISH = Message(1, "ana", b"rubbish")
IMPORT = genesis("this", 0, 2, T0, source="/import", event_id="import-0", imports=True)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (raw(), NoGenesis, r"partition 0 .* is empty.*lastseen topics create again.*import was interrupted"),
        (raw(ZERO), NoGenesis, r"partition 1 .* is empty.*lastseen topics create again"),
        (raw(IMPORT), NoGenesis, r"partition 1 .* is empty.*if an import was interrupted, start that again"),
        (raw(ZERO, RUBBISH), NoGenesis, r"partition 1 .* does not begin with a genesis record.*lastseen log copy"),
        (raw(ZERO, RUBBISH, ONE), NoGenesis, r"partition 1 .* does not begin with a genesis record"),
        (raw(ZERO, ZERO._replace(partition=1)), NoGenesis, r"partition 1 .* does not begin with a genesis record"),
        (raw(ZERO, OTHER_ONE), LogMismatch, r"partition 1 begins as part of log other, and another as part of this"),
        (raw(ZERO, OF_THREE), LogMismatch, r"has 2 partitions, and the genesis record of partition 1 says 3"),
    ],
)  # fmt: skip
def test_a_log_without_its_genesis_records_is_refused(
    make: Callable[[], MemoryLog], error: type[LogMismatch], says: str
) -> None:
    log = make()
    before = log.end_offsets()
    with pytest.raises(error, match=says) as refusal:
        Engine(log, ManualClock(T0), SETTINGS)
    assert type(refusal.value) is error
    assert log.end_offsets() == before, "nothing is written"


def test_an_emitter_writes_nothing_before_the_genesis_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    made = genesis_records
    monkeypatch.setattr(sqlite_log, "genesis_records", lambda log_id, count, at_ms: made(log_id, count, at_ms)[:1])
    with pytest.raises(NoGenesis, match="is empty"):
        lastseen.Emitter(f"{url}?partitions=2", source="/reports")
    with closing(open_log(url, ManualClock(T0), genesis=False)) as log:
        assert log.end_offsets() == [1, 0]


def test_a_beginning_that_was_deleted_is_no_missing_genesis() -> None:
    class Trimmed(MemoryLog):
        def read(self, partition: int, from_offset: int, max_records: int) -> list[lastseen.engine.log.port.Record]:
            if partition == 1 and not from_offset:
                raise LogMismatch("the records before offset 1 were deleted")
            return super().read(partition, from_offset, max_records)

    log = Trimmed(ManualClock(T0), 2)
    log.append([ZERO, ONE])
    assert check_genesis(log) == "this"


def test_a_snapshot_of_another_log_is_refused(tmp_path: Path) -> None:
    """Of the same file or topic, as far as its own identity says: only the genesis record tells them apart."""
    clock = ManualClock(T0)
    chosen = Settings.of(background=False, snapshot=str(tmp_path / "a.snapshot"))

    def made(log_id: str) -> MemoryLog:
        log = MemoryLog(clock)
        log.append([genesis(log_id, 0, 1, T0, source="/test", event_id=log_id)])
        log.identity = "one place"
        return log

    with Engine(made("first"), clock, chosen) as engine:
        engine.open("ana")
        engine.flush()
    with pytest.raises(LogMismatch, match=r"snapshot .* was taken of log first.*this is log second.*another snapshot"):
        Engine(made("second"), clock, chosen)
    log = made("first")
    log.append(log_of(engine))
    with Engine(log, clock, chosen) as again:
        assert again.get("ana") is not None


def log_of(engine: Engine) -> list[Message]:
    """The records of a closed engine's log after its genesis record."""
    records = engine._log.log._records[0][1:]  # type: ignore[attr-defined]
    return [Message(0, record.key or "", record.value or b"") for record in records]


def test_a_hostile_opening_after_the_genesis_record_opens_no_import(stage: Stage) -> None:
    engine = stage.open()
    opening = genesis(engine.log_identity, 0, 1, T0, source="/intruder", event_id="import", imports=True)
    engine._log.append([opening])
    engine.refresh()
    assert not engine.is_importing
    assert engine.statistics()["void"] == {"already": 1}
    engine.open("ana")
    stage.clock.advance(10_000_000_000)
    assert engine.get("ana") is None, "its limits still count"
    assert opening.key == SUBJECT

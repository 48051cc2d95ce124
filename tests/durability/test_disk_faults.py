"""Disks that fail, fill up or turn read-only under a running engine: no error is hidden, reads continue, and it
recovers."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import lastseen
from lastseen import Engine
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import LogMismatch, LogUnavailable, OutcomeUnknown, SnapshotError
from lastseen.engine.log import open_log
from lastseen.engine.log.sqlite.log import SqliteLog
from tests.durability.disk import FULL, IO_SYNC, IO_WRITE, Disk, Fault, a_disk
from tests.durability.test_kill import fold_all

ERRORS = {"EIO": IO_WRITE, "ENOSPC": FULL}


@pytest.fixture
def disk() -> Iterator[Disk]:
    with a_disk() as disk:
        yield disk


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'log.db'}"


def opened(url: str) -> Engine:
    return lastseen.open_engine(url, background=False, snapshot_interval="1h")


def on(suffix: str, what: str, code: int) -> Fault:
    """A fault of one kind of operation on the files that belong to one database."""
    return lambda done, path: code if done == what and path.removesuffix("-wal").endswith(suffix) else 0


def in_log(url: str, values: set[bytes]) -> set[bytes]:
    """Which of some values are in the log, read anew; each at most once."""
    log = open_log(url, SystemClock())
    found, offset = [], 0
    try:
        with suppress(LogMismatch):  # where records are missing, in a log that lies
            while page := log.read(0, offset, 1_000):
                found += [record.value for record in page if record.value in values]
                offset = page[-1].offset + 1
    finally:
        log.close()
    assert len(found) == len(set(found))
    return {value for value in found if value is not None}


def test_a_failed_fsync_is_reported_as_an_unknown_outcome(disk: Disk, url: str) -> None:
    engine = opened(url)
    try:
        session = engine.open("kept")
        disk.fault = on("log.db", "sync", IO_SYNC)
        with pytest.raises(OutcomeUnknown, match="may or may not be in the log"):
            engine.open("unknown")
        assert engine.get("kept") is not None, "reads must go on"
        with pytest.raises((OutcomeUnknown, LogUnavailable)):
            engine.touch("kept")
        disk.fault = None
        assert engine.open("later").key == "later", "it must come back by itself"
        assert engine.open("unknown").key == "unknown", "what is unknown can be asked again"
        digest = engine._views.partitions[0].digest
    finally:
        engine.shutdown()
    log = open_log(url, SystemClock())
    try:
        refolded, named, _, _ = fold_all(log)
    finally:
        log.close()
    assert refolded.digest == digest
    assert session.session_id in named.values()


def after_a_crash(folder: Path, number: int) -> str:
    """The log as it would be found if this process were killed now."""
    place = folder / str(number)
    place.mkdir()
    for name in ("log.db", "log.db-wal"):
        if (folder / name).exists():  # the write-ahead file goes with the last connection
            shutil.copyfile(folder / name, place / name)
    return f"sqlite:///{place / 'log.db'}"


@pytest.mark.parametrize(("what", "error"), [("write", "EIO"), ("write", "ENOSPC"), ("sync", "EIO")])
def test_whatever_fails_at_whatever_moment_no_answer_is_a_lie(
    disk: Disk, url: str, tmp_path: Path, what: str, error: str
) -> None:
    tell_no_lie(disk, url, tmp_path, what, error)


def tell_no_lie(disk: Disk, url: str, folder: Path, what: str, error: str) -> None:
    """Append while operations fail at random, and hold the answers against the log: now, and as a crash leaves it."""
    code = IO_SYNC if what == "sync" else ERRORS[error]
    chance = random.Random(f"{what} {error}")
    kept: set[bytes] = set()
    refused: set[bytes] = set()
    unknown: set[bytes] = set()
    log = open_log(url, SystemClock())
    try:
        for number in range(150):
            at = disk.calls + chance.randint(1, 12)
            chosen = code if number % 3 else 0

            def fault(done: str, path: str, at: int = at, chosen: int = chosen) -> int:
                return chosen if done == what and at <= disk.calls < at + 4 and "log.db" in path else 0

            disk.fault = fault
            # Long enough now and then to take several pages, some of which are on the disk when the next one fails.
            value = f"{number} ".encode() + b"x" * chance.choice((10, 9_000, 60_000))
            try:
                log.append([(0, "key", value)])
                kept.add(value)
            except OutcomeUnknown:
                unknown.add(value)
            except LogUnavailable:
                refused.add(value)
            disk.fault = None
            if value not in kept:
                left = after_a_crash(folder, number)
                assert in_log(left, kept) == kept, "what was acknowledged is gone after a crash"
                assert not in_log(left, refused), "what was refused as not written is there after a crash"
    finally:
        log.close()
    assert in_log(url, kept | refused | unknown) >= kept, "what was acknowledged is gone"
    assert not in_log(url, refused), "what was refused as not written is there"
    assert kept
    assert refused or unknown, "no fault struck, so nothing was shown"


@pytest.mark.parametrize("error", ERRORS)
def test_a_log_without_room_refuses_writes_serves_reads_and_comes_back(disk: Disk, url: str, error: str) -> None:
    engine = opened(url)
    try:
        engine.open("kept")
        disk.fault = on("log.db", "write", ERRORS[error])
        for _ in range(3):
            with pytest.raises((LogUnavailable, OutcomeUnknown)) as refusal:
                engine.touch("kept")
            assert error != "ENOSPC" or isinstance(refusal.value, LogUnavailable), (
                "nothing was written, and that is sure"
            )
        kept = engine.get("kept")
        assert kept is not None
        assert kept.version == 1
        assert engine.count() == 1
        disk.fault = None
        touched = engine.touch("kept")
        assert touched is not None
        assert touched.version == 2
    finally:
        engine.shutdown()


@pytest.mark.parametrize("suffix", [".snapshot", ".history"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_snapshot_or_history_without_room_harms_neither_writes_nor_reads(
    disk: Disk, url: str, suffix: str, error: str
) -> None:
    engine = opened(url)
    try:
        engine.open("early")
        engine.flush()
        disk.fault = on(suffix, "write", ERRORS[error])
        for number in range(20):
            engine.open(f"key:{number}")
        with pytest.raises(SnapshotError, match="The log and the reads are not affected"):
            engine.flush()
        assert engine.count() == 21
        disk.fault = None
        engine.open("late")
        engine.flush()
        digest = engine._views.partitions[0].digest
    finally:
        engine.shutdown()
    again = opened(url)
    try:
        assert (again._views.partitions[0].digest, again.count(), again.notes) == (digest, 22, [])
        assert [len(list(again.history(key))) for key in ("early", "key:7", "late")] == [1, 1, 1]
    finally:
        again.shutdown()


def test_a_disk_that_turned_read_only_refuses_to_be_opened_or_written(disk: Disk, url: str) -> None:
    engine = opened(url)
    try:
        engine.open("kept")
        engine.flush()
        disk.is_read_only = True
        disk.fault = lambda what, path: IO_WRITE if what in ("write", "truncate") else 0
        with pytest.raises((LogUnavailable, OutcomeUnknown)):
            engine.touch("kept")
        with pytest.raises((LogUnavailable, SnapshotError), match=r"cannot be (opened|written|used)"):
            opened(url)
        assert engine.get("kept") is not None
        disk.fault, disk.is_read_only = None, False
        touched = engine.touch("kept")
        assert touched is not None
        assert touched.version == 2
    finally:
        engine.shutdown()


@pytest.mark.parametrize("what", ["write", "sync"])
def test_a_checkpoint_of_the_log_that_fails_loses_nothing(disk: Disk, url: str, tmp_path: Path, what: str) -> None:
    # The database itself is written by checkpoints only: the commits before it are in the write-ahead file.
    struck, kept = [], set()

    def fault(done: str, path: str) -> int:
        if done != what or not path.endswith("log.db"):
            return 0
        struck.append(path)
        return IO_WRITE

    log = open_log(url, SystemClock())
    try:
        disk.fault = fault
        for number in range(60):
            value = f"{number} ".encode() + b"x" * 100_000
            log.append([(0, "key", value)])
            kept.add(value)
        assert struck, "there was no checkpoint, so nothing was shown"
        assert in_log(after_a_crash(tmp_path, 0), kept) == kept
    finally:
        disk.fault = None
        log.close()
    assert in_log(url, kept) == kept


@pytest.mark.parametrize("is_reported", [False, True])
def test_the_faults_catch_a_log_that_is_wrong_about_a_failed_sync(
    disk: Disk, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_reported: bool
) -> None:
    def finish(_: SqliteLog, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error:
            connection.rollback()
            if is_reported:
                raise  # which says that nothing was written; yet a crash may bring it back from the write-ahead file

    monkeypatch.setattr(SqliteLog, "_finish", finish)
    with pytest.raises(AssertionError, match="refused as not written" if is_reported else "acknowledged is gone"):
        tell_no_lie(disk, url, tmp_path, "sync", "EIO")

"""A disk that is slow, or hangs: callers share its flushes, wait no longer than it does, and get true outcomes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import pytest

import lastseen
from lastseen import Engine
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import LogUnavailable
from lastseen.engine.log.port import Message
from lastseen.engine.log.sqlite.log import SqliteLog
from tests.durability.disk import Disk, Fault, a_disk
from tests.patience import paced_s

pytestmark = pytest.mark.thorough

CALLERS = 12
SYNC_S = 0.3
"""What one flush to the disk takes; a sound one takes a millisecond."""
SLACK_S = 2.0
"""For a machine that has other things to do."""


@pytest.fixture
def disk() -> Iterator[Disk]:
    with a_disk() as disk:
        yield disk


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "log.db")


def slow(seconds: float, *suffixes: str) -> Fault:
    """Flushes of the files of these databases take so long."""
    disk_is_busy = threading.Event()

    def wait(what: str, name: str) -> int:
        if what == "sync" and name.removesuffix("-wal").endswith(suffixes):
            disk_is_busy.wait(seconds)
        return 0

    return wait


class Took(NamedTuple):
    """How long something took. What must not be short is held against the wall's clock, as the disk's time is; what
    must not be long against a quiet machine's.
    """

    wall_s: float
    quiet_s: float


class Stopwatch:
    """Started when it is made."""

    def __init__(self) -> None:
        self._wall_s, self._paced_s = time.monotonic(), paced_s()

    def took(self) -> Took:
        """How long it has been."""
        return Took(time.monotonic() - self._wall_s, paced_s() - self._paced_s)


def at_once(do: Callable[[int], object], callers: int = CALLERS) -> list[Took]:
    """Let callers do something at the same time; how long each took. Raises what one of them met."""
    took: list[Took] = []
    met: list[BaseException] = []

    def call(number: int) -> None:
        stopwatch = Stopwatch()
        try:
            do(number)
        except BaseException as error:
            met.append(error)
        took.append(stopwatch.took())

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if met:
        raise met[0]
    return took


def test_callers_share_flushes_and_readers_notice_nothing(disk: Disk, path: str) -> None:
    with lastseen.open_engine(f"sqlite:///{path}", snapshot_interval="1h", archive_interval=None) as engine:
        for number in range(CALLERS):
            engine.open(f"key:{number}", attributes={"number": number})
        disk.fault = slow(SYNC_S, "log.db")
        commits, reads = engine._log.log.commits, Readers(engine)  # type: ignore[attr-defined]
        rounds = 4
        with reads:
            took = [each for _ in range(rounds) for each in at_once(lambda n: engine.touch(f"key:{n}", message=n))]
        commits = engine._log.log.commits - commits  # type: ignore[attr-defined]
        disk.fault = None
        assert [engine.get(f"key:{n}").version for n in range(CALLERS)] == [1 + rounds] * CALLERS  # type: ignore[union-attr]
        assert engine.statistics()["void"] == {}
    assert commits <= rounds * 4, f"{commits} flushes for {rounds * CALLERS} touches"
    assert min(took).wall_s >= SYNC_S, "no caller returns before the disk has it"
    # At the most one flush that is under way, one that has gathered others, and one's own.
    assert longest_s(took) < 3 * SYNC_S + SLACK_S
    assert len(reads.took) > 50
    assert median(reads.took) < SYNC_S / 10
    assert quantiles(reads.took, n=20)[-1] < SYNC_S / 2, "readers wait for no disk"


def test_appends_of_several_callers_share_a_flush(disk: Disk, path: str) -> None:
    log = SqliteLog(path, SystemClock())
    try:
        disk.fault = slow(SYNC_S, "log.db")
        took = at_once(lambda number: log.append([Message(0, "key", b"%d" % number)]))
        disk.fault = None
        assert log.commits <= 4, f"{log.commits} flushes for {CALLERS} appends"
        assert min(took).wall_s >= SYNC_S
        assert longest_s(took) < 3 * SYNC_S + SLACK_S
        assert len({record.value for record in log.read(0, 0, 100)}) == CALLERS
    finally:
        log.close()


def longest_s(took: list[Took]) -> float:
    """In a quiet machine's seconds."""
    return max(each.quiet_s for each in took)


class Readers:
    """A caller that reads all the time, and notes how long it takes."""

    def __init__(self, engine: Engine) -> None:
        self.took: list[float] = []
        self._engine, self._is_over = engine, threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Readers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _read(self) -> None:
        number = 0
        while not self._is_over.wait(0.005):
            number = (number + 1) % CALLERS
            began_s = paced_s()
            assert self._engine.get(f"key:{number}").attributes == {"number": number}  # type: ignore[union-attr]
            assert len(self._engine.list(limit=5).sessions) == 5
            assert len(self._engine.messages(f"key:{number}")) <= 4
            self.took.append(paced_s() - began_s)


def test_a_snapshot_on_a_slow_disk_holds_up_no_caller(disk: Disk, path: str) -> None:
    with lastseen.open_engine(f"sqlite:///{path}", snapshot_interval="20ms", archive_interval=None) as engine:
        engine.open("key")
        disk.fault = slow(1.0, ".snapshot", ".history")
        give_up, took = paced_s() + 4, []
        while paced_s() < give_up:
            began_s = paced_s()
            engine.touch("key")
            took.append(paced_s() - began_s)
        assert engine.health() == {}
        disk.fault = None
    assert quantiles(took, n=100)[-1] < 0.5, "one flush of the snapshot takes 2 s"
    with lastseen.open_engine(f"sqlite:///{path}", background=False) as again:
        assert again.get("key").version == 1 + len(took)  # type: ignore[union-attr]
        assert again.notes == []


def test_a_flush_that_hangs_for_longer_than_any_timeout_is_waited_for(disk: Disk, path: str) -> None:
    hangs_s, patience_s = 3.0, 1
    log = SqliteLog(path, SystemClock(), lock_timeout_s=patience_s)
    other = SqliteLog(path, SystemClock(), lock_timeout_s=patience_s)
    try:
        log.append([Message(0, "key", b"before")])
        disk.fault = slow(hangs_s, "log.db")
        hanging = log.append_soon([Message(0, "key", b"hanging")])
        threading.Event().wait(0.3)  # it is in its flush by now
        disk.fault = None
        stopwatch = Stopwatch()
        with pytest.raises(LogUnavailable, match="locked by another process"):
            other.append([Message(0, "key", b"refused")])
        refused = stopwatch.took()
        assert refused.wall_s >= patience_s, "others wait for the lock timeout"
        assert refused.quiet_s < hangs_s, "others return in time"
        assert not hanging.done(), "no caller returns before the disk has it"
        took = at_once(lambda number: log.append([Message(0, "key", b"behind %d" % number)]), 4)
        assert longest_s(took) < hangs_s + SLACK_S
        assert hanging.result(SLACK_S)[0].offset == 1
        values = [record.value for record in other.read(0, 0, 100)]
        assert values[:2] == [b"before", b"hanging"]
        assert sorted(values[2:]) == [b"behind %d" % number for number in range(4)]  # type: ignore[type-var]
        assert other.append([Message(0, "key", b"refused")])[0].offset == 6, "it can simply be tried again"
    finally:
        disk.fault = None
        log.close()
        other.close()

"""The one reader: a caller that waits for a record returns when every projection has it, and not before."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from stage import T0

import lastseen
from lastseen.engine.clock import ManualClock
from lastseen.engine.errors import LastseenError, LogMismatch
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Message, Position, Record
from lastseen.projections import follower as follower_module
from lastseen.projections.follower import BATCH_RECORDS, LOOK_EVERY, Follower
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Outcome, Partition, TouchRun
from tests.patience import PATIENCE_S


class Listener:
    """A projection that keeps what it receives, and can be slowed down."""

    def __init__(self) -> None:
        self.received: list[tuple[int, int]] = []
        self.may_go_on = threading.Event()
        self.has_begun = threading.Event()
        self.may_go_on.set()

    def follow(self, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        self.has_begun.set()
        assert self.may_go_on.wait(PATIENCE_S)
        self.received += [(partition.number, outcome.record.offset) for outcome in outcomes]

    def follow_touches(self, partition: Partition, run: TouchRun) -> None:
        self.received += [(partition.number, offset) for _, offset, *_ in run.entries]


class Bench:
    """A follower of a log in memory, with a listener."""

    def __init__(self, partitions: int = 1) -> None:
        self.log = MemoryLog(ManualClock(T0), partitions)
        self.partitions = [Partition(number) for number in range(partitions)]
        self.listener = Listener()
        view = LiveView(self.partitions, None, threading.Lock())  # type: ignore[arg-type]
        self.follower = Follower(self.log, view, [self.listener])


def test_no_caller_returns_before_every_projection_has_the_record() -> None:
    bench = Bench()
    bench.log.append([Message(0, "k", b"any bytes")])
    bench.listener.may_go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(bench.follower.catch_up, Position(0, 0))
        assert bench.listener.has_begun.wait(PATIENCE_S)
        second = pool.submit(bench.follower.catch_up, Position(0, 0))
        with pytest.raises(TimeoutError):
            second.result(0.1)
        bench.listener.may_go_on.set()
        assert first.result(PATIENCE_S) + second.result(PATIENCE_S) == 1
    assert bench.listener.received == [(0, 0)]


def test_each_record_is_delivered_once_and_in_order_to_any_number_of_callers() -> None:
    bench = Bench(partitions=2)
    count = 3 * BATCH_RECORDS
    bench.log.append([Message(number % 2, "k", b"x") for number in range(2 * count)])
    with ThreadPoolExecutor(6) as pool:
        folded = list(pool.map(lambda _: bench.follower.catch_up(), range(12)))
    assert sum(folded) == 2 * count
    for partition in (0, 1):
        assert [offset for number, offset in bench.listener.received if number == partition] == list(range(count))


def test_records_that_take_long_are_folded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    count = 10 * LOOK_EVERY + 1
    bench.log.append([Message(0, "k", b"x")] * count)
    folded: list[int] = []
    holds: list[int] = []
    fold = Partition.fold

    def counted(partition: Partition, record: Record) -> Outcome:
        folded.append(record.offset)
        return fold(partition, record)

    class Watched(nullcontext[None]):
        def __exit__(self, *_: object) -> None:
            holds.append(len(folded) - sum(holds))

    monkeypatch.setattr(Partition, "fold", counted)
    # Each record takes as long as two looks are apart, so that the first look ends a hold.
    bench.follower._monotonic_s = lambda: len(folded) * follower_module.HELD_S / LOOK_EVERY
    bench.follower.lock = Watched()  # type: ignore[assignment]
    others_turns: list[int] = []

    def pause(_: float) -> None:
        others_turns.append(len(folded))

    monkeypatch.setattr(follower_module, "time", SimpleNamespace(sleep=pause, perf_counter=None))
    monkeypatch.setattr(follower_module.threading, "active_count", lambda: 2)
    assert bench.follower.catch_up() == count
    assert folded == list(range(count)) == [offset for _, offset in bench.listener.received]
    assert holds == [LOOK_EVERY] * 10 + [1]
    assert others_turns == [LOOK_EVERY * (turn + 1) for turn in range(10)]


def test_a_gap_after_a_pause_stops_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    records = [Record(0, offset, T0, "k", b"x") for offset in (*range(LOOK_EVERY + 3), LOOK_EVERY + 9)]
    bench.log.append([Message(0, "k", b"x")] * (LOOK_EVERY + 10))
    monkeypatch.setattr(bench.log, "read", lambda *_: records)
    bench.follower._monotonic_s = iter(range(100)).__next__
    with pytest.raises(LogMismatch, match=f"expected the record at offset {LOOK_EVERY + 3} and found"):
        bench.follower.catch_up()
    assert [offset for _, offset in bench.listener.received] == list(range(LOOK_EVERY + 3))


def test_a_gap_stops_it_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.log.append([Message(0, "k", b"x")] * 3)
    records = [Record(0, offset, T0, "k", b"x") for offset in (0, 2)]
    monkeypatch.setattr(bench.log, "read", lambda *_: records)
    for _ in range(3):
        with pytest.raises(LogMismatch, match="expected the record at offset 1 and found 2"):
            bench.follower.catch_up()
    assert bench.listener.received == [(0, 0)], "what was folded before the gap must be delivered, or a flush skips it"
    monkeypatch.undo()
    with pytest.raises(LogMismatch):
        bench.follower.catch_up()
    assert isinstance(bench.follower.failure, LogMismatch)


def test_reads_of_the_view_continue_while_the_log_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a broker does that has acknowledged what is behind a record, and is cut off before it has sent that."""
    bench = Bench(2)
    bench.log.append([Message(0, "k", b"x"), Message(1, "k", b"x")])
    read, is_asked, answers = bench.log.read, threading.Event(), threading.Event()

    def hang(partition: int, *rest: int) -> list[Record]:
        if partition == 0:
            is_asked.set()
            assert answers.wait(PATIENCE_S)
        return read(partition, *rest)

    monkeypatch.setattr(bench.log, "read", hang)
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(bench.follower.catch_up, Position(0, 0))
        try:
            assert is_asked.wait(PATIENCE_S)
            assert bench.follower.lock.acquire(timeout=0), "a reader of the view waits for no log"
            bench.follower.lock.release()
            assert bench.follower.catch_up(Position(1, 0)) == 1, "nor do other partitions"
        finally:
            answers.set()
        assert stuck.result(PATIENCE_S) == 1
    assert bench.listener.received == [(1, 0), (0, 0)]


def test_a_partition_that_is_dropped_while_its_records_are_read_is_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.log.append([Message(0, "k", b"x")] * 2)
    read, view = bench.log.read, bench.follower._view

    def drop_meanwhile(*place: int) -> list[Record]:
        monkeypatch.undo()
        assert view.lock.acquire(timeout=PATIENCE_S)
        view.partitions[0] = Partition(0)
        bench.follower.reset(0)
        view.lock.release()
        return read(*place)[:1]

    monkeypatch.setattr(bench.log, "read", drop_meanwhile)
    dropped = view.partitions[0]
    assert bench.follower.catch_up() == 2
    assert (dropped.checkpoint, view.partitions[0].checkpoint) == (0, 2)
    assert bench.listener.received == [(0, 0), (0, 1)]


def test_what_an_interrupt_left_behind_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    clock = ManualClock(T0)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        engine.open("a")
        engine.flush()
        monkeypatch.setattr(engine._state.snapshot, "follow_touches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.touch("a")
        monkeypatch.undo()
        for use in (
            engine.flush,
            lambda: engine.history("a"),
            lambda: engine.touch("a"),
            lambda: engine.touch_many(["a"]),
        ):
            with pytest.raises(LastseenError, match="interrupted halfway"):
                use()
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        session = engine.get("a")
        assert session is not None
        assert session.version == 2, "the touch that was logged counts, although no projection received it"
        assert [entry.offset for entry in engine.history("a")] == [1, 2]

"""The threads behind an engine: they wake in time, not before, and never spin."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from stage import HOUR, KEY, MIN, T0, Stage, unsaved_bytes

from lastseen import ManualClock, errors, policy
from lastseen.embedded import background
from lastseen.embedded.background import BackgroundThreads
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Partition
from tests.patience import PATIENCE_S, eventually


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that another thread brings about."""
    eventually(condition, every_s=0.002)


def settled_down(count: Callable[[], int]) -> int:
    """The count, once the threads behind have had every chance to raise it: one that spins does, by thousands."""
    threading.Event().wait(0.15)
    return count()


def test_the_pruner_wakes_when_a_deadline_comes(stage: Stage) -> None:
    engine = stage.open(background=True, idle_ttl="30m")
    engine.open("a")
    engine.open("b", policy=policy(idle_ttl="45m"))
    assert engine.statistics()["ended"] == {}
    stage.clock.advance(30 * MIN)
    wait_for(lambda: engine.statistics()["ended"] == {"idle": 1})
    assert engine.count() == 1
    stage.clock.advance(15 * MIN)
    wait_for(lambda: engine.count() == 0)
    assert [life.ended_at_ms for key in "ab" for life in engine.session_spans(key)] == [T0 + 30 * MIN, T0 + 45 * MIN]


def test_a_sooner_deadline_wakes_a_pruner_that_meant_to_sleep_longer(stage: Stage) -> None:
    engine = stage.open(background=True, idle_ttl=None)
    engine.open("without end")
    wait_for(lambda: engine._background._sleeping_until_ms is None)
    engine.open("an hour", policy=policy(idle_ttl="1h"))
    engine.open("a minute", policy=policy(idle_ttl="1m"))
    stage.clock.advance(MIN)
    wait_for(lambda: engine.count() == 2)
    stage.clock.advance(HOUR)
    wait_for(lambda: engine.count() == 1)


def test_too_many_sessions_wake_the_pruner_though_nothing_is_due(stage: Stage) -> None:
    engine = stage.open(background=True, idle_ttl=None, max_sessions=3)
    for number in range(10):
        engine.open(f"key-{number}")
    wait_for(lambda: engine.count() == 3)
    assert [session.key for session in engine.list().sessions] == ["key-7", "key-8", "key-9"]
    assert engine.statistics()["ended"] == {"capacity": 7}


def test_sessions_that_are_too_many_within_a_moment_are_evicted_together(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "EVICTION_DELAY_S", 0.5)
    engine = stage.open(background=True, idle_ttl=None, max_sessions=3)
    began_s = monotonic()
    for number in range(40):
        engine.open(f"k{number}")
    wait_for(lambda: engine.count() == 3)
    wait_for(lambda: engine._pruner.announced == 37)
    # One moment, or two, and more on a machine that stands still meanwhile; without it, nearly one for each.
    assert engine._pruner.runs <= 2 + (monotonic() - began_s) // 0.5


def test_a_shutdown_does_not_wait_for_the_moment_to_be_over(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "EVICTION_DELAY_S", 20 * PATIENCE_S)
    engine = stage.open(background=True, idle_ttl=None, max_sessions=1)
    lies_down, wait = threading.Event(), engine._background._stop.wait

    def received(seconds: float) -> bool:
        if seconds == background.EVICTION_DELAY_S:
            lies_down.set()
        return wait(seconds)

    monkeypatch.setattr(engine._background._stop, "wait", received)
    for key in ("a", "b"):
        engine.open(key)
    assert lies_down.wait(PATIENCE_S)
    began = monotonic()
    engine.shutdown()
    assert monotonic() - began < PATIENCE_S


def test_a_pruner_with_nothing_to_do_does_nothing(stage: Stage) -> None:
    engine = stage.open(background=True, idle_ttl="30m", max_sessions=50)
    for number in range(50):
        engine.open(f"key-{number}")
    assert settled_down(lambda: engine._pruner.runs) == 0
    stage.clock.advance(29 * MIN)
    # Deadlines are kept in buckets, so it may look early, a few times.
    assert settled_down(lambda: engine._pruner.runs) <= 3
    assert engine.count() == 50


def test_a_pruner_that_can_do_nothing_does_not_spin(stage: Stage) -> None:
    engine = stage.open(background=True, idle_ttl=None, max_sessions=1)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda key: (engine.open(key), engine.suspend(key)), "abc"))
    assert settled_down(lambda: engine._pruner.runs) <= 3
    assert engine.count() == 3 - engine.statistics()["ended"].get("capacity", 0)


def test_an_engine_that_shall_not_prune_does_not(stage: Stage) -> None:
    engine = stage.open(background=True, prune=False, idle_ttl="1m")
    engine.open(KEY)
    stage.clock.advance(HOUR)
    assert settled_down(engine.count) == 1
    assert engine.get(KEY) is None  # due all the same


class Bell(ManualClock):
    """A clock under which the world moves on just when a thread is about to sleep, or to read the time."""

    def __init__(self) -> None:
        super().__init__(T0)
        self.before_sleep: list[Callable[[], object]] = []
        self.before_look: list[Callable[[], object]] = []
        self.slept: list[int] = []

    def now_ms(self) -> int:
        if self.before_look and threading.current_thread().name == "lastseen-prune":
            self.before_look.pop(0)()
        return super().now_ms()

    def sleep_until(self, deadline_ms: int, wake: threading.Event, at_most_ms: int) -> None:
        if self.before_sleep:
            self.before_sleep.pop(0)()
        self.slept.append(deadline_ms)
        super().sleep_until(deadline_ms, wake, at_most_ms)


@pytest.mark.parametrize("moment", ["before_sleep", "before_look"])
def test_a_shutdown_is_heard_whenever_it_comes(moment: str) -> None:
    clock = Bell()
    background = BackgroundThreads(LiveView([Partition(0)], None, threading.Lock()), clock)  # type: ignore[arg-type]

    setattr(clock, moment, [background._signal_stop])
    began = monotonic()
    background.start(follow=lambda: None, flush=lambda: None, flush_every_s=PATIENCE_S, prune=lambda: 0)
    for thread in background._threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "it sleeps through the shutdown"
    assert monotonic() - began < PATIENCE_S


def test_taking_a_flush_request_keeps_the_shutdown() -> None:
    background = BackgroundThreads(LiveView([Partition(0)], None, threading.Lock()), ManualClock(T0))  # type: ignore[arg-type]
    background.request_flush()
    assert [background.take_flush_request(), background.take_flush_request()] == [True, False]
    background._signal_stop()
    assert background.take_flush_request()
    assert background._flush_now.is_set(), "a flush that is about to sleep would sleep through the shutdown"


def test_a_deadline_that_is_filed_while_the_pruner_lies_down_wakes_it(stage: Stage) -> None:
    clock = Bell()
    stage.clock = clock
    engine = stage.open(idle_ttl=None)

    def open_brief() -> None:
        engine.open(KEY, policy=policy(idle_ttl="1m"))

    pruned = threading.Event()
    look = engine._views.next_deadline

    def look_and_then(among: object = None) -> int | None:
        seen = look(among)
        if clock.before_look or engine.count():
            return seen
        open_brief()  # after the look, before the sleep
        return seen

    engine._views.next_deadline = look_and_then  # type: ignore[method-assign]
    engine._background.start(
        follow=lambda: None, flush=lambda: None, flush_every_s=PATIENCE_S, prune=lambda: pruned.set() or 0
    )
    wait_for(lambda: len(clock.slept) >= 1 and engine.count() == 1)
    clock.advance(MIN)
    assert pruned.wait(PATIENCE_S), "it sleeps through the deadline"


def test_other_peoples_records_are_followed(on_disk: Stage) -> None:
    follower = on_disk.open(background=True, snapshot=":memory:")
    writer = on_disk.open()
    writer.open(KEY, attributes={"n": 1})
    wait_for(lambda: follower.get(KEY) is not None)
    writer.update(KEY, {"n": 2})
    wait_for(lambda: follower.get(KEY).attributes == {"n": 2})  # type: ignore[union-attr]


def test_what_changes_is_flushed_in_the_background(on_disk: Stage) -> None:
    engine = on_disk.open(background=True, snapshot_interval="5ms")
    engine.open(KEY)
    wait_for(lambda: engine._state.snapshot.unsaved() == 0)
    on_disk.crash(engine)
    again = on_disk.open()
    assert again._state.snapshot.unsaved() == 0
    assert again.get(KEY) is not None
    assert again.notes == []


def test_what_takes_much_memory_is_flushed_before_it_is_time(on_disk: Stage) -> None:
    mib = 1024 * 1024
    engine = on_disk.open(background=True, snapshot_interval="1h", max_body_bytes=4 * mib)
    for number in range(200):
        engine.open(f"key-{number}")
        engine.touch(f"key-{number}", message="x" * 50_000)
        wait_for(lambda: unsaved_bytes(engine) < 4 * mib)
    wait_for(lambda: unsaved_bytes(engine) < 2 * mib)
    assert 2 < sum(engine.meters.flushes.counts) <= 10, "no more often than needed"


def test_a_copy_is_put_by_every_so_often(on_disk: Stage) -> None:
    engine = on_disk.open(background=True, snapshot_interval="5ms", archive_interval="1h")
    engine.open(KEY)

    def archives() -> list[str]:
        return sorted(path.name for path in on_disk.folder.glob("*.archive-?"))

    for number in range(1, 6):
        on_disk.clock.advance(HOUR)
        wait_for(lambda number=number: f"log.db.snapshot.archive-{number}" in archives())
    wait_for(lambda: archives() == [f"log.db.snapshot.archive-{number}" for number in (3, 4, 5)])


def test_a_failing_thread_says_so_and_goes_on(on_disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastseen.engine.log.duty_health.RETRY_S", 0.01)
    engine = on_disk.open(background=True, snapshot_interval="5ms")
    engine.open(KEY)
    wait_for(lambda: engine._state.snapshot.unsaved() == 0)
    write = engine._state.snapshot._file.write

    def fail(_: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(engine._state.snapshot._file, "write", fail)
    engine.touch(KEY)
    wait_for(lambda: isinstance(engine.health().get("flush"), errors.SnapshotError))
    assert engine.touch(KEY) is not None
    monkeypatch.setattr(engine._state.snapshot._file, "write", write)
    wait_for(lambda: engine.health() == {})
    assert engine._state.snapshot.unsaved() == 0


def test_a_thread_outlives_an_unforeseen_error(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lastseen.engine.log.duty_health.RETRY_S", 0.01)
    engine = stage.open(background=True, idle_ttl=None, max_sessions=1)
    run = engine._pruner.run

    def fail(_: int) -> None:
        raise RuntimeError("out of the blue")

    monkeypatch.setattr(engine._pruner, "run", fail)
    for key in ("a", "b"):
        engine.open(key)
    wait_for(lambda: "out of the blue" in str(engine.health().get("prune")))
    assert isinstance(engine.health()["prune"], errors.LastseenError)
    assert "in fail" in caplog.text, "the log says where"
    monkeypatch.setattr(engine._pruner, "run", run)
    wait_for(lambda: engine.count() == 1 and engine.health() == {})


def test_shutdown_can_be_repeated_and_leaves_nothing_behind(stage: Stage) -> None:
    threads = threading.active_count()
    engine = stage.open(background=True)
    engine.open(KEY)
    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(engine.shutdown) for _ in range(3)]:
            future.result(PATIENCE_S)
    engine.shutdown()
    wait_for(lambda: threading.active_count() == threads)
    with pytest.raises(errors.EngineClosed):
        engine.get(KEY)
    assert not list(stage.folder.glob("*-wal"))


def test_an_engine_is_a_context(on_disk: Stage) -> None:
    with on_disk.open(background=True) as engine:
        engine.open(KEY)
    with pytest.raises(errors.EngineClosed):
        engine.touch(KEY)
    with on_disk.open() as again:
        assert again.get(KEY) is not None

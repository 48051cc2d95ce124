"""The lock rules of ARCHITECTURE.md: the order of the engine's locks, and what may not wait under the view's lock.

Every lock of an engine is replaced by one that knows its level, and a thread that takes a lock of a lower level, or the
view's lock twice, fails. A workload then goes through every command, read and background task, from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from stage import HOUR, MIN, Stage

from lastseen import Engine
from lastseen.engine.clock import ManualClock
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Message
from lastseen.engine.log.sqlite.log import SqliteLog
from lastseen.projections.follower import BATCH_RECORDS, Follower
from lastseen.projections.history import History
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Outcome, Partition
from lastseen.projections.snapshot import Snapshot
from lastseen.projections.snapshot_file import SnapshotFile

ORDER = ("snapshot", "history", "fold", "view")
"""Outermost first."""
PLAIN_LOCK = type(threading.Lock())


class Held(threading.local):
    """The levels of the locks that a thread holds, in the order in which it took them."""

    def __init__(self) -> None:
        self.levels: list[str] = []


class LockRules:
    """Locks that check the rules as they are taken."""

    def __init__(self) -> None:
        self.held = Held()
        self.broken: list[str] = []
        self.nested: set[tuple[str, str]] = set()
        """Pairs of levels, (held, taken): shows that the workload takes locks inside of others at all."""

    def taking(self, level: str) -> None:
        """A thread is about to take a lock."""
        for other in self.held.levels:
            self.nested.add((other, level))
            same = other == level and level in ("fold", "view")
            if same or ORDER.index(other) > ORDER.index(level):
                self.broken.append(f"{level} is taken while {other} is held")

    def waiting(self, what: str) -> None:
        """A thread is about to do what may take long."""
        if "view" in self.held.levels:
            self.broken.append(f"{what} under the view's lock")


class CheckedLock:
    """A lock with a level."""

    def __init__(self, lock: Any, level: str, rules: LockRules) -> None:
        self._lock, self._level, self._rules = lock, level, rules

    def __enter__(self) -> None:
        self._rules.taking(self._level)
        self._lock.acquire()
        self._rules.held.levels.append(self._level)

    def __exit__(self, *_: object) -> None:
        self._rules.held.levels.remove(self._level)
        self._lock.release()


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[LockRules]:
    """Engines opened under it have checked locks; what they wait for is checked too."""
    rules = LockRules()

    def with_checked_locks(kind: type, level: str, find: Callable[[Any], None]) -> None:
        original: Callable[..., None] = kind.__init__

        def made(self: Any, *args: Any, **named: Any) -> None:
            original(self, *args, **named)
            find(self)

        monkeypatch.setattr(kind, "__init__", made)

    def lock_of(level: str) -> Callable[[Any], None]:
        def replace(owner: Any) -> None:
            owner.lock = CheckedLock(owner.lock, level, rules)

        return replace

    def folds_of(follower: Any) -> None:
        (name,) = (
            name
            for name, value in vars(follower).items()
            if isinstance(value, list) and value and isinstance(value[0], PLAIN_LOCK)
        )
        setattr(follower, name, [CheckedLock(lock, "fold", rules) for lock in getattr(follower, name)])

    with_checked_locks(Snapshot, "snapshot", lock_of("snapshot"))
    with_checked_locks(History, "history", lock_of("history"))
    with_checked_locks(LiveView, "view", lock_of("view"))
    with_checked_locks(Follower, "fold", folds_of)
    slow = {
        SqliteLog: ("append", "append_soon", "read", "wait", "end_offsets"),
        MemoryLog: ("append", "append_soon", "read", "wait", "end_offsets"),
        SnapshotFile: ("write", "body", "copy_to", "sessions"),
        History: ("write", "entries", "session_spans", "last_session_span"),
    }
    for owner, names in slow.items():
        for name in names:
            monkeypatch.setattr(owner, name, watched(getattr(owner, name), f"{owner.__name__}.{name}", rules))
    yield rules
    assert rules.broken == []


def watched(call: Callable[..., Any], name: str, rules: LockRules) -> Callable[..., Any]:
    """The same call, seen by the rules."""

    def seen(*args: Any, **named: Any) -> Any:
        rules.waiting(name)
        return call(*args, **named)

    return seen


def use(engine: Engine, clock: ManualClock, name: str) -> None:
    """Go through every command and read with keys of one's own."""
    for number in range(12):
        key = f"{name}:{number}"
        engine.open(key, attributes={"owner": name})
        engine.touch(key, message={"text": "x" * 3_000})
        engine.touch(key, wait="none")
    key = f"{name}:0"
    engine.suspend(key)
    engine.resume(key)
    with engine.hold(key, holder=name):
        engine.update(key, {"a": 1})
    engine.rotate(key)
    engine.flush()
    for number in range(12):
        engine.messages(f"{name}:{number}")
    engine.list(sort="deadline", owner=name)
    engine.history(key)
    engine.explain(key)
    engine.as_of(key, clock.now_ms())
    engine.statistics()
    engine.guarded(10)
    engine.register_prefixes([f"{name}:"])
    engine.touch_many([f"{name}:1", f"{name}:2"])
    engine.close(f"{name}:3")
    engine.archive()
    engine.execute_plan(engine.prune(dry_run=True))


def test_locks_are_taken_in_their_order_and_nothing_slow_waits_under_the_view(stage: Stage, rules: LockRules) -> None:
    stage.partitions = 1 if stage.url == "memory://" else 2
    engine = stage.open(max_sessions=100, max_body_bytes=20_000, idle_ttl=30 * MIN)
    with engine.subscribe(), ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(use, engine, stage.clock, name) for name in ("ana", "bob", "cy")]:
            each.result()
    stage.clock.advance(HOUR)
    engine.prune()
    assert engine.count() == 0
    assert {("snapshot", "history"), ("history", "view"), ("snapshot", "view"), ("fold", "view")} <= rules.nested


def test_the_background_tasks_keep_the_order(on_disk: Stage, rules: LockRules) -> None:
    engine = on_disk.open(background=True, snapshot_interval="10ms", archive_interval="10ms", max_sessions=20)
    use(engine, on_disk.clock, "ana")
    on_disk.clock.advance(HOUR)
    engine.shutdown()
    on_disk.opened.clear()
    again = on_disk.open()
    assert again.count() <= 20


def test_the_view_is_locked_for_a_batch_of_records_at_most(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    follow = Snapshot.follow

    def counted(self: Snapshot, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        sizes.append(len(outcomes))
        follow(self, partition, outcomes)

    engine = stage.open()
    monkeypatch.setattr(Snapshot, "follow", counted)
    engine._log.append([Message(0, "k", b"x")] * (2 * BATCH_RECORDS + 1))
    assert engine.refresh() == sum(sizes) == 2 * BATCH_RECORDS + 1
    assert max(sizes) <= BATCH_RECORDS


@contextmanager
def taken(*locks: CheckedLock) -> Iterator[None]:
    """Take locks one inside the other."""
    if not locks:
        yield
        return
    with locks[0], taken(*locks[1:]):
        yield


@pytest.mark.parametrize(
    ("levels", "broken"),
    [
        (("view", "fold"), ["fold is taken while view is held"]),
        (("history", "snapshot"), ["snapshot is taken while history is held"]),
        (("view", "view"), ["view is taken while view is held"]),
        (("fold", "fold"), ["fold is taken while fold is held"]),
        (("snapshot", "history", "fold", "view"), []),
        (("history", "history"), []),
    ],
)
def test_a_wrong_order_is_found(levels: tuple[str, ...], broken: list[str]) -> None:
    rules = LockRules()
    with taken(*(CheckedLock(threading.RLock(), level, rules) for level in levels)):
        pass
    assert rules.broken == broken


def test_what_waits_under_the_views_lock_is_found() -> None:
    rules = LockRules()
    read = watched(lambda: 1, "read", rules)
    with CheckedLock(threading.Lock(), "fold", rules):
        assert read() == 1
    with CheckedLock(threading.Lock(), "view", rules):
        assert read() == 1
    assert rules.broken == ["read under the view's lock"]

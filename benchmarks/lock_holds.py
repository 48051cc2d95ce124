"""H: how long the view's lock is held at a time, at sizes at which one hold could cost what lives, changed or waits."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lastseen
from benchmarks.measure import Row, Size, at_most
from benchmarks.workload import BATCH, fill, fill_keys, key_of, touches
from lastseen.engine.clock import ManualClock, iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.events import Held, HeldData
from lastseen.engine.identifiers import new_event_id
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Log, Message, Record
from lastseen.engine.log.shared_log import OutboundRecord
from lastseen.engine.session import Policy
from lastseen.projections.follower import Follower
from lastseen.projections.live_view import LiveView
from lastseen.projections.outbox import MAX_KEPT, MAX_OFFSET, STEP, Outbox
from lastseen.projections.partition import Partition
from lastseen.projections.publisher import Publisher
from lastseen.projections.snapshot_cut import copied_in_steps

NOTES = """
- The longest of all holds of the *view's lock*, which every read of a session takes, in CPU time of the thread that has
  it: what a reader waits at most, on a machine with a processor to spare. Python's collector is off: where it looks at
  what is in memory, it stops every thread.
- *Fold* is by an engine on SQLite, `created` records and then touches of all; *flush* writes all of them. *At capacity*
  every session is one too many, and the least recently used are held: the first pass sets them aside, the later ones
  find them there. *Outbox* is folding 500,000 effects, copying them for a flush, and publishing them.
"""

POLICY = Policy(idle_ttl_ms=86_400_000)
MOST_MS = 5.0
PASSES = 5
EVICTED = 500


class TimedLock:
    """A lock that remembers the longest hold since it was last asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since_s = 0.0
        self._longest_s = 0.0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._since_s = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._longest_s = max(self._longest_s, time.thread_time() - self._since_s)
        self._lock.release()

    def longest_ms(self) -> float:
        """The longest hold since the last call."""
        longest_s, self._longest_s = self._longest_s, 0.0
        return longest_s * 1_000


class Holds:
    """The longest holds found, by what was done."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    def of(self, what: str, lock: TimedLock, work: Callable[[], object]) -> None:
        """Do some work, and note its longest hold."""
        lock.longest_ms()
        work()
        self.found.setdefault(what, []).append(lock.longest_ms())


class Sink:
    """Topics of facts and states that take everything."""

    def had_facts(self, _: int) -> bool:
        return False

    def mark_foreign(self, partition: int) -> None:
        pass

    def publish_states(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        pass

    def publish_facts(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        pass

    def newest_facts(self, _: int) -> Iterator[Sequence[Record]]:
        return iter(())

    facts_by_others = written_by_others = newest_facts

    def close(self) -> None:
        pass


def run(folder: Path, size: Size) -> list[Row]:
    """All figures of this file: each once, since it is the longest of hundreds."""
    holds = Holds()
    effects = MAX_KEPT // 20 if size.is_quick else MAX_KEPT
    flush(holds, folder / "flush.db", size.middle)
    prune(holds, folder / "held.db", size.middle // 2, size.middle * 9 // 20)
    with without_collector():
        outbox(holds, effects)
    return [at_most(f"longest hold: {what}", values, "ms", MOST_MS) for what, values in holds.found.items()]


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's collector is off for a while, once all that can be collected is."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def engine_on(path: Path, **settings: Any) -> Iterator[tuple[lastseen.Engine, TimedLock]]:
    """An engine on a new log, and the lock of its view."""
    made = LiveView.__init__
    lock = TimedLock()

    def with_timed_lock(view: LiveView, partitions: Any, attributes: Any, _: Any) -> None:
        made(view, partitions, attributes, lock)

    with patch.object(LiveView, "__init__", with_timed_lock):
        engine = lastseen.open_engine(f"sqlite:///{path}", background=False, **settings)
    with without_collector(), engine:
        yield engine, lock


def flush(holds: Holds, path: Path, sessions: int) -> None:
    """Fold and flush so many sessions that began, and then so many that changed."""
    with engine_on(path) as (engine, lock):
        log, now_ms = engine._log, engine._now_ms()
        session_ids = fill(log, sessions, now_ms, POLICY)
        holds.of(f"fold of {sessions:,} new sessions", lock, engine.refresh)
        holds.of(f"flush of {sessions:,} new sessions", lock, engine.flush)
        touches(log, session_ids, sessions, now_ms)
        holds.of(f"fold of {sessions:,} touches", lock, engine.refresh)
        holds.of(f"flush of {sessions:,} changed sessions", lock, engine.flush)


def prune(holds: Holds, path: Path, most: int, held: int) -> None:
    """Evict from a full engine, whose least recently used sessions are held."""
    with engine_on(path, max_sessions=most) as (engine, lock):
        log, now_ms = engine._log, engine._now_ms()
        session_ids = fill(log, most, now_ms, POLICY)
        hold_all(log, session_ids[:held], now_ms)
        engine.refresh()
        for number in range(PASSES):
            fill_keys(log, [f"new:{number}:{each}" for each in range(EVICTED)], now_ms, POLICY)
            engine.refresh()
            what = "first pass" if not number else "later passes"
            holds.of(f"pruner at capacity, {held:,} held, {what}", lock, engine.prune)
            assert engine.count() == most


def hold_all(log: Log, session_ids: Sequence[str], now_ms: int) -> None:
    """Append a hold of each of these sessions, numbered from 0."""
    at, data = iso_from_ms(now_ms), {"holder": "job", "lease_ms": 3_600_000}
    for start in range(0, len(session_ids), BATCH):
        log.append(
            [
                Message(0, key_of(number), encode(
                    Held(
                        id=new_event_id(now_ms), source="/bench", subject=key_of(number), time=at,
                        data=HeldData(session_id=session_ids[number], **data),
                    )
                ))
                for number in range(start, min(start + BATCH, len(session_ids)))
            ]
        )  # fmt: skip


def outbox(holds: Holds, effects: int) -> None:
    """Fold so many effects before one is published, and then one half more; copy those that stayed; publish them."""
    clock, lock = ManualClock(), TimedLock()
    log, kept = MemoryLog(clock, 1), Outbox(1, "/bench", effects)
    view = LiveView([Partition(0)], None, lock)  # type: ignore[arg-type]
    follower = Follower(log, view, [], [kept])
    session_ids = fill(log, 1_000, clock.now_ms(), POLICY)
    for start in range(0, effects * 3 // 2, BATCH):
        touches(log, session_ids, BATCH, clock.now_ms())
        what = "outbox" if start < effects else "full outbox"
        holds.of(f"fold into the {what}, {effects:,} effects", lock, follower.catch_up)

    def between(from_offset: int) -> list[Any]:
        return kept.between(0, from_offset, MAX_OFFSET, STEP)

    holds.of(f"copy of the outbox, {effects:,} effects", lock, lambda: copied_in_steps(between, 0, lock))
    kept.floors[0] = 0  # what has left it is not to be folded again here
    publisher = Publisher(log, view, kept, Sink(), lambda: frozenset([0]))
    holds.of(f"publishing the outbox, {effects:,} effects", lock, publisher.run)
    assert kept.pending(0) == 1

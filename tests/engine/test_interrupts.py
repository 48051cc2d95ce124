"""An exception at any line of reading and writing the files leaves an engine usable, and its files complete."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from interruption import Place, Tracing
from stage import Stage, do_something, state_of

from lastseen import Engine
from lastseen.embedded import loading, past
from lastseen.engine.errors import SnapshotError
from lastseen.engine.log import sqlite_files
from lastseen.projections import (
    archive,
    bodies,
    body_reads,
    history,
    outbox,
    snapshot,
    snapshot_cut,
    snapshot_file,
    snapshot_rows,
)  # fmt: skip
from lastseen.projections.outbox import Kept, OutboxEntry

MODULES: list[ModuleType] = [
    archive, bodies, body_reads, history, outbox, snapshot, snapshot_cut, snapshot_file, snapshot_rows,
    sqlite_files, loading, past,
]  # fmt: skip
FILES = {str(Path(module.__file__ or "").resolve()) for module in MODULES} | {module.__file__ for module in MODULES}
RARELY = 12
"""After so many interrupts everything is compared, not only what is quick to look at."""


class Tried:
    """An engine that is interrupted again and again, and lives on."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.choose = Random(seed)
        self.engine = self.open()
        self.use(60)

    def open(self) -> Engine:
        """An engine whose bodies leave memory at once, so that they are read from the file."""
        return self.stage.open(max_body_bytes=1)

    def use(self, steps: int = 6) -> None:
        """Things happen."""
        for _ in range(steps):
            do_something(self.engine, self.stage.clock, self.choose)

    def check(self) -> None:
        """It is usable, holds nothing open, and its history misses nothing after the next flush."""
        state = self.engine._state
        assert not is_locked(state.snapshot.lock), "the snapshot's lock is held"
        assert not is_locked(state.history.lock), "the history's lock is held"
        assert not is_locked(self.engine._views.lock), "the view's lock is held"
        assert not state.snapshot._file._connection.in_transaction, "a transaction of the snapshot is open"
        assert not state.history._connection.in_transaction, "a transaction of the history is open"
        self.use(3)
        for session in self.engine.list().sessions:
            assert dict(session.attributes) is not None
        self.engine.flush()
        assert state.snapshot.unsaved() == state.history.unsaved() == 0
        (kept,) = state.history._connection.execute("SELECT count(*) FROM entries").fetchone()
        assert kept == sum(self.engine._log.end_offsets()), "records are missing from the history"

    def check_all(self) -> None:
        """What a new engine makes of the files is what it makes of the log alone; it goes on from there."""
        self.stage.crash(self.engine)
        folded = self.stage.open(snapshot=":memory:")
        self.engine = self.open()
        assert self.engine.notes == []
        assert state_of(self.engine) == state_of(folded)
        assert past_of(self.engine) == past_of(folded)
        folded.shutdown()
        self.stage.opened.remove(folded)


def past_of(engine: Engine) -> dict[str, list[Any]]:
    """The whole history, as rows."""
    engine.flush()
    connection = engine._state.history._connection
    return {table: sorted(map(repr, connection.execute(f"SELECT * FROM {table}"))) for table in ("entries", "lives")}


def is_locked(lock: Any) -> bool:
    """Whether another thread cannot have a lock."""
    got: list[bool] = []

    def take() -> None:
        got.append(lock.acquire(blocking=False))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return not got[0]


def flush(tried: Tried) -> None:
    tried.engine.flush()


def flush_to_a_full_disk(tried: Tried) -> None:
    file = tried.engine._state.snapshot._file
    file._connection.execute("PRAGMA max_page_count = 1")
    try:
        tried.engine.flush()
    except SnapshotError:
        pass
    finally:
        file._connection.execute("PRAGMA max_page_count = 1000000")


def flush_with_a_history_that_cannot_be_written(tried: Tried) -> None:
    connection = tried.engine._state.history._connection
    connection.execute("PRAGMA max_page_count = 1")
    try:
        tried.engine.flush()
    except SnapshotError:
        pass
    finally:
        connection.execute("PRAGMA max_page_count = 1000000")


def read_bodies(tried: Tried) -> None:
    for session in tried.engine.list().sessions:
        assert dict(session.attributes) is not None
        tried.engine.messages(session.key)


def read_history(tried: Tried) -> None:
    for key in ("key-1", "key-2"):
        tried.engine.history(key)
        tried.engine.session_spans(key)
        tried.engine.explain(key)
        tried.engine.as_of(key, tried.stage.clock.now_ms())


def write_archive(tried: Tried) -> None:
    tried.engine.archive()


OPERATIONS: list[Callable[[Tried], None]] = [
    flush, flush_to_a_full_disk, flush_with_a_history_that_cannot_be_written, read_bodies, read_history, write_archive,
]  # fmt: skip


def interrupt_everywhere(tried: Tried, operation: Callable[[Tried], None], tracing: Tracing) -> int:
    """Interrupt an operation once at each place that it comes through; at how many places."""
    done: set[Place] = set()
    while True:
        tried.use()
        new = [place for place in tracing.places(lambda: operation(tried)) if place not in done]
        if not new:
            return len(done)
        for place in new:
            tried.use()
            done.add(place)
            if tracing.interrupt(place, lambda: operation(tried)):
                try:
                    tried.check()
                    if len(done) % RARELY == 0:
                        tried.check_all()
                except BaseException as error:
                    error.add_note(f"after an interrupt at {place}")
                    raise


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_an_exception_at_any_line_leaves_everything_usable_and_complete(
    operation: Callable[[Tried], None], on_disk: Stage
) -> None:
    on_disk.partitions = 2
    tried = Tried(on_disk, seed=7)
    assert interrupt_everywhere(tried, operation, Tracing(FILES)) > 20
    tried.check_all()


@pytest.mark.thorough
# An interrupt between the return of `open()` and `with` leaves the file to the collector; no code can prevent that.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_an_exception_at_any_instruction_leaves_everything_usable_and_complete(
    operation: Callable[[Tried], None], on_disk: Stage
) -> None:
    on_disk.partitions = 2
    tried = Tried(on_disk, seed=11)
    assert interrupt_everywhere(tried, operation, Tracing(FILES, by_instruction=True)) > 50
    tried.check_all()


@pytest.mark.parametrize(
    "operation",
    [
        lambda kept: kept.append(OutboxEntry(11, [], [])),
        lambda kept: kept.drop_first(),
        lambda kept: kept.drop_before(2, 10),
        lambda kept: kept.drop_before(8, 10),
        lambda kept: kept.drop_before(100, 100),
    ],
    ids=["append", "drop first", "drop few", "drop many", "drop all"],
)
def test_kept_effects_are_whole_after_an_exception_at_any_instruction(
    operation: Callable[[Kept], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "STEP", 3)
    tracing = Tracing(FILES, by_instruction=True)

    def filled() -> Kept:
        kept = Kept()
        kept.extend([OutboxEntry(offset, [], []) for offset in range(11)])
        return kept

    places = tracing.places(lambda: operation(filled()))
    assert len(places) > 10
    for place in places:
        kept = filled()
        tracing.interrupt(place, lambda kept=kept: operation(kept))  # type: ignore[misc]
        kept.append(OutboxEntry(12, [], []))
        offsets = [each.offset for each in kept.between(0, 100, 100)]
        assert offsets == [each for each in range(offsets[0], 13) if each != 11 or 11 in offsets], place
        assert (len(kept), kept.first_offset()) == (len(offsets), offsets[0]), place
        kept.drop_before(7, 100)
        assert [each.offset for each in kept.between(0, 100, 100)] == [each for each in offsets if each >= 7], place

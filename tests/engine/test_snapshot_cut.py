"""A flush copies sessions in steps while others change them: what it writes is one moment all the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage import Stage, do_something, state_of

from lastseen.projections import outbox, snapshot_cut
from lastseen.projections.history import History
from lastseen.projections.outbox import Kept, OutboxEntry


class LockWithPasserBy:
    """A lock of the view; whenever it is released, another thread gets its turn."""

    def __init__(self, lock: Any, passer_by: Callable[[], None]) -> None:
        self._lock, self._passer_by = lock, passer_by

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()
        self._passer_by()


@given(seed=st.integers(0, 2**32), step=st.integers(1, 7), steps_between=st.integers(0, 3))
def test_a_flush_is_one_moment_whatever_happens_meanwhile(seed: int, step: int, steps_between: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_cut, "STEP", step)
        patch.setattr(snapshot_cut, "PAUSE_S", 0)
        stage = Stage(Path(folder), partitions=2)
        try:
            choose = Random(seed)
            engine = stage.open()
            for _ in range(3):
                for _ in range(30):
                    do_something(engine, stage.clock, choose)
                state = engine._state

                def happen(engine: Any = engine) -> None:
                    for _ in range(steps_between):
                        do_something(engine, stage.clock, choose)

                lock = LockWithPasserBy(engine._views.lock, happen)
                state.snapshot.flush(engine._views.partitions, state.statistics, state.bodies, state.history, lock)
            expected = state_of(stage.open(snapshot=":memory:"))
            stage.crash(engine)
            again = stage.open()
            assert state_of(again) == expected
        finally:
            stage.end()


def test_the_view_is_locked_for_a_step_at_most(on_disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = on_disk.open()
    for number in range(40):
        engine.open(f"key:{number}")
    monkeypatch.setattr(snapshot_cut, "STEP", 8)
    packed, holds = [], []
    pack = snapshot_cut.pack
    monkeypatch.setattr(snapshot_cut, "pack", lambda session: packed.append(session) or pack(session))
    state = engine._state
    lock = LockWithPasserBy(engine._views.lock, lambda: holds.append(len(packed)))
    assert state.snapshot.flush(engine._views.partitions, state.statistics, state.bodies, state.history, lock) == 40
    assert len(packed) == 40
    assert max(after - before for before, after in pairwise(holds)) == 8
    assert holds[0] == 0


@pytest.mark.parametrize("broken", ["copy", "history", "file"])
def test_an_interrupted_flush_loses_nothing(broken: str, on_disk: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = on_disk.open()
    choose = Random(5)
    for _ in range(60):
        do_something(engine, on_disk.clock, choose)
    place: dict[str, tuple[Any, str]] = {
        "copy": (snapshot_cut.Cut, "rows"),
        "history": (History, "_write"),
        "file": (type(engine._state.snapshot._file), "_write_body"),
    }

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*place[broken], interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.flush()
    for _ in range(20):
        do_something(engine, on_disk.clock, choose)
    engine.flush()
    expected = state_of(on_disk.open(snapshot=":memory:"))
    entries = {key: len(engine.history(key)) for key in expected["sessions"]}
    on_disk.crash(engine)
    again = on_disk.open()
    refolded = on_disk.open(snapshot=":memory:")
    assert state_of(again) == expected
    assert entries == {key: len(refolded.history(key)) for key in expected["sessions"]}


@given(st.lists(st.tuples(st.sampled_from(["add", "drop", "first"]), st.integers(0, 40), st.integers(1, 9))))
def test_kept_effects_are_a_list_that_loses_its_beginning(steps: list[tuple[str, int, int]]) -> None:
    kept, naive, next_offset = Kept(), list[int](), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "STEP", 2)
        for what, offset, limit in steps:
            if what == "add":
                next_offset += limit
                kept.append(OutboxEntry(next_offset, [], []))
                naive.append(next_offset)
            elif what == "drop":
                kept.drop_before(offset, limit)
                count = min(limit, sum(each < offset for each in naive))
                naive = naive[count:]
            elif naive:
                kept.drop_first()
                naive = naive[1:]
            assert len(kept) == len(naive)
            assert kept.first_offset() == (naive[0] if naive else None)
            found = [each.offset for each in kept.between(offset, offset + 20, limit)]
            assert found == [each for each in naive if offset <= each < offset + 20][:limit]

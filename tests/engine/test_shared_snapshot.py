"""Two engines on one log keep one snapshot and one history: in any order of flushes, it stays sound."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lastseen
from lastseen.engine.errors import LastseenError
from lastseen.engine.log.sqlite_files import write_ahead

KEYS = ("a", "b", "c")
SETTINGS: dict[str, Any] = {"background": False, "idle_ttl": "1h", "max_messages": 3, "max_body_bytes": 700}

steps = st.lists(
    st.tuples(
        st.sampled_from((0, 1)),
        st.sampled_from(("open", "say", "say", "patch", "unpatch", "suspend", "resume", "close", "read",
                         "refresh", "flush", "flush")),
        st.sampled_from(KEYS),
        st.integers(0, 9),
    ),
    min_size=10,
    max_size=40,
)  # fmt: skip


def act(engine: lastseen.Engine, action: str, key: str, number: int) -> None:
    match action:
        case "open":
            engine.open(key, attributes={"begun": number})
        case "say":
            engine.touch(key, message={"n": number})
        case "patch":
            engine.update(key, {"n": number, "deep": {str(number): number}})
        case "unpatch":
            engine.update(key, {"n": None, "deep": {str(number): None}})
        case "suspend":
            engine.suspend(key)
        case "resume":
            engine.resume(key)
        case "close":
            engine.close(key)
        case "read":
            engine.messages(key)
        case "refresh":
            engine.refresh()
        case "flush":
            engine.flush()


def copy_of_files(folder: str, name: str) -> None:
    """Copy the log and what stands beside it, with what SQLite has not checkpointed yet."""
    Path(folder, name).mkdir()
    for path in Path(folder).glob("log.db*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, Path(folder, name, path.name))


def everything(url: str, clock: lastseen.ManualClock, **more: Any) -> dict[str, Any]:
    """All that an engine says about the keys when it has just been opened."""
    with lastseen.open_engine(url, clock=clock, **SETTINGS, **more) as engine:
        assert engine.notes == []
        return {
            "checkpoints": engine.checkpoints(),
            "counted": {name: engine.statistics()[name] for name in ("created", "ended", "applied", "void")},
            "live": [view.as_dict() for view in engine.list().sessions],
            "messages": {key: engine.messages(key) for key in KEYS},
            "history": {key: engine.history(key) for key in KEYS},
            "lives": {key: engine.session_spans(key) for key in KEYS},
        }


@settings(max_examples=30)
@given(steps)
def test_a_shared_snapshot_is_what_the_log_says(taken: list[tuple[int, str, str, int]]) -> None:
    hold_against_the_log(taken)


@pytest.mark.thorough
@settings(max_examples=300)
@given(steps)
def test_a_shared_snapshot_is_what_the_log_says_for_long(taken: list[tuple[int, str, str, int]]) -> None:
    hold_against_the_log(taken)


def hold_against_the_log(taken: list[tuple[int, str, str, int]]) -> None:
    """Two engines take these steps; both, and one that starts from their snapshot, know what the log says."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'log.db')}"
        clock = lastseen.ManualClock()
        engines = [lastseen.open_engine(url, clock=clock, **SETTINGS) for _ in range(2)]
        try:
            for who, action, key, number in taken:
                clock.advance(1)
                try:
                    act(engines[who], action, key, number)
                except LastseenError:
                    continue
            # As if both had been killed now: what is on the disk, and the rest of the log.
            copy_of_files(folder, "killed")
            killed = f"sqlite:///{Path(folder, 'killed', 'log.db')}"
            assert everything(killed, clock) == everything(killed, clock, snapshot=str(Path(folder, "anew1.snapshot")))
            for engine in engines:
                engine.refresh()
            for key in KEYS:
                first, second = (engine.get(key) for engine in engines)
                assert (first and first.as_dict()) == (second and second.as_dict())
                assert engines[0].messages(key) == engines[1].messages(key)
        finally:
            for engine in engines:
                engine.shutdown()
        shared = everything(url, clock)
        assert shared == everything(url, clock, snapshot=str(Path(folder, "anew2.snapshot")))


def test_a_body_read_from_a_snapshot_that_is_ahead_takes_nothing_twice() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'log.db')}"
        clock = lastseen.ManualClock()
        limits = SETTINGS | {"max_body_bytes": 1}
        with (
            lastseen.open_engine(url, clock=clock, **limits) as ahead,
            lastseen.open_engine(url, clock=clock, **limits) as behind,
        ):
            ahead.open("a")
            ahead.touch("a", message=1)
            behind.refresh()
            for number in (2, 3, 4):
                ahead.touch("a", message=number)
            ahead.flush()
            assert [message.value for message in behind.messages("a")] == [2, 3, 4]
            behind.refresh()
            assert [message.value for message in behind.messages("a")] == [2, 3, 4]


def test_engines_that_make_their_files_at_the_same_moment_get_one_of_each(tmp_path: Path) -> None:
    together = threading.Barrier(6)

    def come(number: int) -> list[str]:
        together.wait()
        with lastseen.open_engine(f"sqlite:///{tmp_path / f'{number}.db'}", **SETTINGS) as engine:
            engine.open("a")
            engine.flush()
            return list(engine.notes)

    with ThreadPoolExecutor(6) as pool:
        for number in range(12):
            notes = [asked.result() for asked in [pool.submit(come, number) for _ in range(6)]]
            assert notes == [[]] * 6, "nothing is damaged, nothing is set aside"
    assert not list(tmp_path.glob("*.damaged"))


def test_a_caller_that_cannot_have_the_lock_in_time_gets_an_error(tmp_path: Path) -> None:
    place = tmp_path / "new.db"
    with closing(sqlite3.connect(place, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE meta (name)")
        with closing(sqlite3.connect(place, timeout=0)) as late:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                write_ahead(late, patience_s=0.05)
            threading.Timer(0.1, other.rollback).start()
            write_ahead(late)
            assert late.execute("PRAGMA journal_mode").fetchone() == ("wal",)

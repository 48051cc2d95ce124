"""The snapshot: a restart is the log refolded, at any moment; what fails is caught up; what is damaged is noticed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import HOUR, KEY, MIN, Stage, do_something, state_of, unsaved_bytes

from lastseen import Engine, errors, policy

SNAPSHOT, HISTORY = "log.db.snapshot", "log.db.history"
Sound = tuple[Path, dict[str, Any], int]


def refolded(stage: Stage) -> dict[str, Any]:
    """The state of an engine that has nothing but the log."""
    return state_of(stage.open(snapshot=":memory:"))


def grow(stage: Stage, engine: Engine, seed: int, steps: int) -> None:
    """Let so much happen."""
    choose = Random(seed)
    for _ in range(steps):
        do_something(engine, stage.clock, choose)


# ── a restart ──


@given(
    seed=st.integers(0, 2**32),
    parts=st.lists(st.tuples(st.integers(1, 25), st.sampled_from(["go on", "flush", "crash", "restart"])), max_size=6),
    partitions=st.sampled_from([1, 3]),
    body_bytes=st.sampled_from([1, 2_000, 10**8]),
)
@settings(max_examples=25)
def test_the_live_view_is_the_snapshot_and_the_tail_is_the_log_refolded(
    seed: int, parts: list[tuple[int, str]], partitions: int, body_bytes: int
) -> None:
    with TemporaryDirectory() as folder:
        stage = Stage(Path(folder), partitions=partitions)
        try:
            engine = stage.open(max_body_bytes=body_bytes)
            for number, (steps, then) in enumerate(parts):
                grow(stage, engine, seed + number, steps)
                live = state_of(engine)
                if then == "flush":
                    engine.flush()
                elif then == "crash":
                    stage.crash(engine)
                    engine = stage.open(max_body_bytes=body_bytes)
                elif then == "restart":
                    engine.shutdown()
                    engine = stage.open(max_body_bytes=body_bytes)
                assert engine.notes == []
                assert state_of(engine) == live == refolded(stage)
        finally:
            stage.end()


def test_a_restart_after_a_flush_reads_only_the_tail(on_disk: Stage) -> None:
    engine = on_disk.open()
    grow(on_disk, engine, 1, 100)
    engine.flush()
    flushed = engine.checkpoints()[0][0]
    engine.open("after")
    read: list[tuple[int, int]] = []
    on_disk.crash(engine)
    again = on_disk.open(progress=lambda done, total: read.append((done, total)))
    assert read == [(flushed + 1, flushed + 1)]
    assert again.get("after") is not None


def test_a_held_session_is_not_ended_early_after_a_restart(on_disk: Stage) -> None:
    engine = on_disk.open(idle_ttl="1m")
    engine.open(KEY)
    engine.open("idle")
    engine.take_lease(KEY, "job", 10 * MIN)
    engine.shutdown()
    again = on_disk.open()
    on_disk.clock.advance(5 * MIN)
    assert [due.key for due in again.prune().due] == ["idle"]
    on_disk.clock.advance(5 * MIN)
    assert [(due.key, due.deadline_ms) for due in again.prune().due] == [(KEY, on_disk.clock.now_ms())]


def test_an_ended_session_stays_ended_after_a_restart(on_disk: Stage) -> None:
    engine = on_disk.open()
    engine.create(KEY, session_id="x" * 22)
    engine.close(KEY)
    engine.shutdown()
    again = on_disk.open()
    with pytest.raises(errors.SessionEnded):
        again.touch(KEY, session_id="x" * 22)
    with pytest.raises(errors.SessionExists):
        again.create(KEY, session_id="x" * 22)


# ── a flush that fails ──


def full_disk(engine: Engine) -> Callable[[], object]:
    """The snapshot's disk is full; call the result to make room."""
    connection = engine._state.snapshot._file._connection
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    return lambda: connection.execute("PRAGMA max_page_count = 1000000")


def failing(target: Any, name: str) -> Callable[[], object]:
    """A method that raises, as where the disk has gone; call the result to bring it back."""
    method = getattr(target, name)

    def fail(*_: object) -> object:
        raise sqlite3.OperationalError("disk I/O error")

    setattr(target, name, fail)
    return lambda: setattr(target, name, method)


FAILURES: dict[str, Callable[[Engine], Callable[[], object]]] = {
    "disk full": full_disk,
    "writing the sessions": lambda engine: failing(engine._state.snapshot._file, "write"),
    "writing the bodies, in the middle": lambda engine: failing(engine._state.snapshot._file, "_write_messages"),
    "writing the history": lambda engine: failing(engine._state.history, "_write"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("body_bytes", [1, 10**8])
def test_a_flush_that_fails_loses_nothing_and_catches_up(name: str, body_bytes: int, on_disk: Stage) -> None:
    engine = on_disk.open(max_body_bytes=body_bytes)
    grow(on_disk, engine, 3, 120)
    engine.flush()
    (on_disk.folder / SNAPSHOT).stat()
    repair = FAILURES[name](engine)
    for seed in (4, 5):
        grow(on_disk, engine, seed, 60)
        for number in range(8):  # more than fits, and never without a message
            engine.open(f"big-{seed}-{number}", attributes={"text": "z" * 9_000})
            engine.touch(f"big-{seed}-{number}", message="z" * 3_000)
        assert unsaved_bytes(engine) > 100_000
        with pytest.raises(errors.SnapshotError, match="cannot be written"):
            engine.flush()
        assert unsaved_bytes(engine) > 100_000, "what failed to be saved still waits"
        assert state_of(engine) == refolded(on_disk)
    repair()
    assert engine.flush() > 0
    assert engine._state.snapshot.unsaved() == engine._state.history.unsaved() == 0
    live = state_of(engine)
    on_disk.crash(engine)
    again = on_disk.open()
    assert again.notes == []
    assert state_of(again) == live == refolded(on_disk)


def test_a_failed_flush_leaves_no_hole_in_the_history(on_disk: Stage) -> None:
    engine = on_disk.open()
    engine.create("ana")
    write = engine._state.history._write

    def fails_while_others_go_on(*_: object) -> None:
        engine.close("ana", reason="logout")
        engine.create("ana")
        raise sqlite3.OperationalError("disk I/O error")

    engine._state.history._write = fails_while_others_go_on  # type: ignore[method-assign]
    engine.close("ana")
    engine.create("ana")
    with pytest.raises(errors.SnapshotError, match="cannot be written"):
        engine.flush()
    engine._state.history._write = write  # type: ignore[method-assign]
    assert [entry.name for entry in engine.history("ana")] == ["created", "closed", "created", "closed", "created"]
    assert [life.reason for life in engine.session_spans("ana")] == ["deleted", "logout", None]


def test_a_failed_last_flush_only_makes_the_next_start_longer(on_disk: Stage) -> None:
    engine = on_disk.open()
    grow(on_disk, engine, 8, 50)
    live = state_of(engine)
    failing(engine._state.snapshot._file, "write")
    engine.shutdown()
    again = on_disk.open()
    assert again.notes == []
    assert state_of(again) == live


# ── a damaged snapshot ──


@pytest.fixture
def others(tmp_path_factory: pytest.TempPathFactory) -> pytest.TempPathFactory:
    """Makes folders that are not the engine's."""
    return tmp_path_factory


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """A folder with a log and its snapshot, the state that they hold, and the time."""
    folder = tmp_path_factory.mktemp("sound")
    stage = Stage(folder)
    engine = stage.open()
    grow(stage, engine, 7, 400)
    state = state_of(engine)
    assert state["count"] > 5
    assert len(state["endings"][0]) > 10
    assert sum(map(len, state["messages"].values())) > 3
    stage.end()
    return folder, state, stage.clock.now_ms()


def copy(sound: Sound, folder: Path) -> Stage:
    """A stage on a copy of it."""
    shutil.copytree(sound[0], folder, dirs_exist_ok=True)
    stage = Stage(folder)
    stage.clock.set(sound[2])
    return stage


def assert_noticed(stage: Stage, wanted: dict[str, Any], *, is_noted: bool) -> None:
    """The state is right; or, where only a body is damaged, reading that body says so. Nothing is wrong in silence."""
    try:
        engine = stage.open()
        assert bool(engine.notes) == is_noted or not is_noted
        failure, found = None, None
        try:
            found = state_of(engine)
        except errors.SnapshotError as error:
            failure = str(error)
        if failure is None:
            assert found == wanted
            return
        assert "delete the snapshot" in failure
        for session in engine.list(limit=10_000).sessions:
            right = wanted["sessions"][session.key]
            assert (session.session_id, session.version) == (right["session_id"], right["version"])
            assert (session.deadline_ms, session.owner) == (right["deadline_ms"], right["owner"])
    finally:
        stage.end()


def test_a_snapshot_cut_anywhere_is_noticed(sound: Sound, tmp_path: Path) -> None:
    size = (sound[0] / SNAPSHOT).stat().st_size
    choose = Random(1)
    for number, keep in enumerate(
        [1, 15, 16, 99, 100, 4_095, 4_096, size - 4_096, size - 1, *choose.sample(range(size), 20)]
    ):
        stage = copy(sound, tmp_path / str(number))
        with (stage.folder / SNAPSHOT).open("rb+") as file:
            file.truncate(keep)
        assert_noticed(stage, sound[1], is_noted=True)
        assert (stage.folder / f"{SNAPSHOT}.damaged").stat().st_size == keep


def test_a_snapshot_that_is_gone_or_empty_is_folded_anew(sound: Sound, tmp_path: Path) -> None:
    for name, content in (("gone", None), ("empty", b"")):
        stage = copy(sound, tmp_path / name)
        (stage.folder / SNAPSHOT).unlink()
        if content is not None:
            (stage.folder / SNAPSHOT).write_bytes(content)
        assert_noticed(stage, sound[1], is_noted=False)


def test_a_flipped_bit_is_never_believed(sound: Sound, tmp_path: Path) -> None:
    content = (sound[0] / SNAPSHOT).read_bytes()
    choose = Random(2)
    used = [place for place, byte in enumerate(content) if byte]  # the rest is room between rows, mostly
    noticed = 0
    for place in [*choose.sample(used, 130), *choose.sample(range(len(content)), 20)]:
        stage = copy(sound, tmp_path / "flipped")
        damaged = bytearray(content)
        damaged[place] ^= 1 << choose.randrange(8)
        (stage.folder / SNAPSHOT).write_bytes(damaged)
        assert_noticed(stage, sound[1], is_noted=False)
        noticed += bool(list(stage.folder.glob("*.damaged")))
        shutil.rmtree(stage.folder)
    assert noticed > 15


@pytest.mark.parametrize("table", ["sessions", "endings", "attributes", "messages", "policies", "partitions"])
def test_a_row_that_its_page_no_longer_names_is_missed(sound: Sound, tmp_path: Path, table: str) -> None:
    stage = copy(sound, tmp_path)
    with closing(sqlite3.connect(stage.folder / SNAPSHOT)) as connection:
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with (stage.folder / SNAPSHOT).open("rb+") as file:
        file.seek((page - 1) * page_bytes + 3)
        cells = int.from_bytes(file.read(2), "big")
        file.seek((page - 1) * page_bytes + 3)
        file.write((cells - 1).to_bytes(2, "big"))
    assert_noticed(stage, sound[1], is_noted=True)


def rubbish(path: Path) -> None:
    """Not a database at all."""
    path.write_bytes(b"rubbish" * 1_000)


def test_the_newest_sound_archive_takes_the_place_of_a_damaged_snapshot(on_disk: Stage) -> None:
    engine = on_disk.open()
    for seed in range(3):
        grow(on_disk, engine, seed, 40)
        engine.archive()
    checkpoint = engine.checkpoints()[0][0]
    grow(on_disk, engine, 9, 40)
    live = state_of(engine)
    engine.shutdown()
    for damage, used in (([SNAPSHOT], 3), ([SNAPSHOT, f"{SNAPSHOT}.archive-3"], 2)):
        for name in damage:
            rubbish(on_disk.folder / name)
        read: list[tuple[int, int]] = []
        again = on_disk.open(progress=lambda done, total, read=read: read.append((done, total)))
        assert any("damaged" in note for note in again.notes)
        assert any(f"archive-{used}" in note and "started from" in note for note in again.notes)
        assert read, "what came after the archive is folded from the log"
        assert state_of(again) == live
        again.shutdown()
    assert checkpoint < live["checkpoints"][0][0]
    for name in (SNAPSHOT, *(f"{SNAPSHOT}.archive-{number}" for number in (1, 2, 3))):
        rubbish(on_disk.folder / name)
    again = on_disk.open()
    assert "there is no sound archive: everything is folded from the log" in again.notes
    assert len([note for note in again.notes if "was skipped" in note]) == 3
    assert state_of(again) == live


def test_an_archive_without_its_digest_is_not_trusted(on_disk: Stage) -> None:
    engine = on_disk.open()
    grow(on_disk, engine, 1, 40)
    live = state_of(engine)
    path = engine.archive()
    assert path is not None
    engine.shutdown()
    Path(f"{path}.sha256").unlink()
    rubbish(on_disk.folder / SNAPSHOT)
    again = on_disk.open()
    assert "there is no sound archive: everything is folded from the log" in again.notes
    assert state_of(again) == live


# ── a snapshot of something else ──


def test_a_snapshot_of_another_log_is_refused_and_left_alone(on_disk: Stage, others: pytest.TempPathFactory) -> None:
    other = Stage(others.mktemp("other"))
    other.open().open("another's")
    other.end()
    on_disk.open().open(KEY)
    on_disk.end()
    (on_disk.folder / "log.db.history").unlink()
    shutil.copy(other.folder / SNAPSHOT, on_disk.folder / SNAPSHOT)
    before = (on_disk.folder / SNAPSHOT).read_bytes()
    with pytest.raises(errors.LogMismatch, match="was taken of log"):
        on_disk.open()
    assert (on_disk.folder / SNAPSHOT).read_bytes() == before


def test_a_snapshot_ahead_of_its_log_is_refused(on_disk: Stage) -> None:
    engine = on_disk.open()
    grow(on_disk, engine, 1, 40)
    engine.shutdown()
    with closing(sqlite3.connect(on_disk.folder / "log.db")) as connection, connection:
        connection.execute("DELETE FROM stored_events WHERE rowid > (SELECT MAX(rowid) - 5 FROM stored_events)")
    with pytest.raises(errors.LogMismatch, match="the log has lost records"):
        on_disk.open()
    assert not list(on_disk.folder.glob("*.damaged"))


def test_a_log_that_loses_records_stops_the_engine_that_follows_it(on_disk: Stage) -> None:
    engine, other = on_disk.open(), on_disk.open(snapshot=":memory:")
    engine.open(KEY)
    with closing(sqlite3.connect(on_disk.folder / "log.db")) as connection, connection:
        connection.execute("UPDATE stored_events SET originator_version = 3 WHERE originator_version = 1")
    for _ in range(2):
        with pytest.raises(errors.LogMismatch, match="missing"):
            other.refresh()


def foreign(path: Path) -> None:
    """Another program's database."""
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def newer(path: Path) -> None:
    """A snapshot of a later version, sealed as every version seals."""
    from lastseen.projections.snapshot_file import FORMAT, _seal_of

    with closing(sqlite3.connect(path)) as connection, connection:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        seal = _seal_of(FORMAT + 1, meta["identity"], meta["partitions"])
        connection.executemany("UPDATE meta SET value = ? WHERE name = ?", [(FORMAT + 1, "format"), (seal, "seal")])


@pytest.mark.parametrize("make", [foreign, newer])
def test_what_is_no_snapshot_of_ours_is_refused_and_left_alone(on_disk: Stage, make: Callable[[Path], None]) -> None:
    on_disk.open().open(KEY)
    on_disk.end()
    make(on_disk.folder / SNAPSHOT)
    before = (on_disk.folder / SNAPSHOT).read_bytes()
    with pytest.raises(errors.SnapshotError):
        on_disk.open()
    assert (on_disk.folder / SNAPSHOT).read_bytes() == before


def test_a_history_that_is_missing_is_folded_anew(on_disk: Stage) -> None:
    engine = on_disk.open()
    grow(on_disk, engine, 1, 60)
    keys = [f"key-{number}" for number in range(12)]
    received = [(engine.history(key), engine.session_spans(key)) for key in keys]
    live = state_of(engine)
    engine.shutdown()
    (on_disk.folder / "log.db.history").unlink()
    again = on_disk.open()
    assert any("history" in note for note in again.notes)
    assert [(again.history(key), again.session_spans(key)) for key in keys] == received
    assert state_of(again) == live


def test_a_snapshot_can_be_elsewhere_or_nowhere(on_disk: Stage, others: pytest.TempPathFactory) -> None:
    elsewhere = others.mktemp("elsewhere") / "state.snapshot"
    engine = on_disk.open(snapshot=str(elsewhere))
    engine.open(KEY, policy=policy(idle_ttl=HOUR))
    assert engine.archive() == f"{elsewhere}.archive-1"
    engine.shutdown()
    assert sorted(path.name for path in elsewhere.parent.iterdir()) == [
        "state.history", "state.snapshot", "state.snapshot.archive-1", "state.snapshot.archive-1.sha256",
    ]  # fmt: skip
    nowhere = on_disk.open(snapshot=":memory:")
    assert nowhere.get(KEY) is not None
    assert nowhere.archive() is None
    nowhere.shutdown()
    assert sorted(path.name for path in on_disk.folder.iterdir()) == ["log.db"]


def test_a_snapshot_of_an_older_version_is_folded_anew(on_disk: Stage) -> None:
    from lastseen.projections.snapshot_file import _seal_of

    engine = on_disk.open()
    grow(on_disk, engine, 9, 80)
    live = state_of(engine)
    on_disk.end()
    with closing(sqlite3.connect(on_disk.folder / SNAPSHOT)) as connection, connection:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        seal = _seal_of(1, meta["identity"], meta["partitions"])
        connection.executemany("UPDATE meta SET value = ? WHERE name = ?", [(1, "format"), (seal, "seal")])
    again = on_disk.open()
    assert any("format 1" in note for note in again.notes)
    assert state_of(again) == live


def test_a_history_of_an_older_version_is_folded_anew(on_disk: Stage) -> None:
    engine = on_disk.open()
    grow(on_disk, engine, 9, 80)
    wanted = engine.history(KEY, limit=100)
    on_disk.end()
    with closing(sqlite3.connect(on_disk.folder / HISTORY)) as connection, connection:
        connection.execute("UPDATE meta SET value = 1 WHERE name = 'format'")
        connection.execute("UPDATE entries SET verdict = 3 WHERE verdict = 0")
    again = on_disk.open()
    assert again.history(KEY, limit=100) == wanted
    assert again.refresh() == 0

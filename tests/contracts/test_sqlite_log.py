"""What only a log in a file can get wrong: other processes, other files, locks, full disks, forks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lastseen.engine import errors
from lastseen.engine.clock import ManualClock, SystemClock
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Log, Message, Position, Record
from lastseen.engine.log.sqlite.log import SqliteLog
from lastseen.engine.log.tail import Tail
from tests.contracts.log_contract import everything
from tests.patience import PATIENCE_S, paced_s

ROOT = Path(__file__).resolve().parents[2]
UNPRIVILEGED = 65534


def message(text: str, partition: int = 0) -> Message:
    """A message whose key and value tell it apart."""
    return Message(partition, f"key-{text}", text.encode())


def values(log: Log, partition: int = 0) -> list[bytes | None]:
    """The values in one partition."""
    found: list[bytes | None] = []
    while page := log.read(partition, len(found), 100_000):
        found += [record.value for record in page]
    return found


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, by the hash of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    opened = SqliteLog(str(path), ManualClock(), lock_timeout_s=1)
    yield opened
    opened.close()


@contextmanager
def locked(path: Path, how: str = "IMMEDIATE") -> Iterator[None]:
    """Another connection has the file's write lock."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute(f"BEGIN {how}")
        yield
        other.execute("ROLLBACK")


# ── several processes ──


@pytest.mark.parametrize("partitions", [1, 2])
def test_processes_make_append_to_and_follow_one_file_at_once(path: Path, partitions: int) -> None:
    names, each = ["ana", "bob", "cem", "dee", "eve"], 60
    total = len(names) * each
    processes = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("log_process.py")), str(path), name, str(each), str(total),
             str(partitions)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for name in names
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=PATIENCE_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [(process.returncode, errors) for process, (_, errors) in zip(processes, outputs, strict=True)] == [
        (0, "")
    ] * len(names)
    results: list[dict[str, Any]] = [json.loads(output) for output, _ in outputs]
    assert [result["faults"] for result in results] == [[]] * len(names)
    assert [result["seen"] for result in results] == [total] * len(names)
    assert len({result["digest"] for result in results}) == 1, "they read different logs"
    assert len({result["identity"] for result in results}) == 1, "the file was made twice"
    log = open_log(f"sqlite:///{path}", SystemClock())
    stored = everything(log)
    assert sorted(r.value for records in stored for r in records) == sorted(
        f"{name}.{number}".encode() for name in names for number in range(each)
    )
    for result in results:
        assert all(stored[p][offset].value == value.encode() for p, offset, value in result["answers"])
        assert all(earlier[1] < later[1] for earlier, later in pairwise(result["answers"][::partitions]))
    for records in stored:
        assert [record.offset for record in records] == list(range(len(records)))
        assert all(earlier.timestamp_ms <= later.timestamp_ms for earlier, later in pairwise(records))
    log.close()


def test_another_processs_commit_is_seen_without_a_notification(path: Path, log: SqliteLog) -> None:
    other = SqliteLog(str(path), ManualClock())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(log.wait, Position(0, 0), PATIENCE_S)
        other.append([message("a")])
        began = paced_s()
        assert waiting.result(PATIENCE_S) is True
    assert paced_s() - began < 5
    assert values(log) == [b"a"]
    other.close()


# ── refusals: typed, and not a byte is changed ──


def make_log(path: Path, partitions: int = 1) -> None:
    """A log with two records, closed."""
    log = SqliteLog(str(path), ManualClock(), partitions=partitions)
    log.append([message("a"), message("b")])
    log.close()


def set_meta(path: Path, name: str, value: object) -> None:
    """Change what a log says of itself."""
    make_log(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE lastseen_log SET value = ? WHERE name = ?", (value, name))


def make_foreign(path: Path, mode: str) -> None:
    """Another program's database."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def cut(path: Path, share: float) -> None:
    """A log of which a part is missing at the end."""
    log = SqliteLog(str(path), ManualClock())
    log.append([message("x" * 1_000 + str(number)) for number in range(200)])
    log.close()
    with path.open("rb+") as file:
        file.truncate(int(path.stat().st_size * share))


REFUSALS: dict[str, tuple[Callable[[Path], object], type[errors.LastseenError], dict[str, Any]]] = {
    "a text file": (lambda path: path.write_text("dear diary\n" * 50), errors.LogCorrupt, {}),
    "a short file": (lambda path: path.write_bytes(b"S"), errors.LogCorrupt, {}),
    "random bytes": (lambda path: path.write_bytes(bytes(range(256)) * 64), errors.LogCorrupt, {}),
    "a header and rubbish": (
        lambda path: path.write_bytes(b"SQLite format 3\x00" + bytes(range(255, -1, -1)) * 64), errors.LogCorrupt, {}
    ),
    "a header only": (lambda path: path.write_bytes(b"SQLite format 3\x00"), errors.LogCorrupt, {}),
    "a log cut in its first page": (lambda path: cut(path, 0.005), errors.LogCorrupt, {}),
    "a foreign database": (lambda path: make_foreign(path, "DELETE"), errors.LogCorrupt, {}),
    "a foreign database in WAL mode": (lambda path: make_foreign(path, "WAL"), errors.LogCorrupt, {}),
    "a folder": (lambda path: path.mkdir(), errors.InvalidSetting, {}),
    "a newer format": (lambda path: set_meta(path, "format", 2), errors.LogTooNew, {}),
    "no format": (lambda path: set_meta(path, "format", "one"), errors.LogCorrupt, {}),
    "no partition count": (lambda path: set_meta(path, "partitions", None), errors.LogCorrupt, {}),
    "more partitions": (make_log, errors.LogMismatch, {"partitions": 2}),
    "fewer partitions": (lambda path: make_log(path, 3), errors.LogMismatch, {"partitions": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_no_log_is_refused_and_left_alone(case: str, path: Path) -> None:
    make, error, options = REFUSALS[case]
    make(path)
    before, threads = contents(path.parent), threading.active_count()
    for _ in range(2):
        with pytest.raises(error) as refused:
            open_log(f"sqlite:///{path}", ManualClock(), **options)
        assert path.name in str(refused.value)
        assert type(refused.value) is error
    assert contents(path.parent) == before
    assert threading.active_count() == threads, "a refused log left a thread behind"


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidSetting, match="the folder does not exist"):
        open_log(f"sqlite:///{tmp_path / 'absent' / 'log.db'}", ManualClock())
    assert contents(tmp_path) == {}


def test_an_empty_file_becomes_a_log(path: Path) -> None:
    path.touch()
    log = open_log(f"sqlite:///{path}", ManualClock(), genesis=False)
    assert log.append([message("a")]) == [Position(0, 0)]
    log.close()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as a user without rights; who is none to begin with stays who he is."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(UNPRIVILEGED)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o555), (0o000, 0o755), (None, 0o555)])
def test_a_file_without_permission_is_refused(file_mode: int | None, folder_mode: int) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others, and so say nothing about the file
    try:
        path = folder / "log.db"
        if file_mode is not None:
            make_log(path)
            path.chmod(file_mode)
        folder.chmod(folder_mode)
        before = contents(folder)
        with unprivileged(), pytest.raises(errors.LogUnavailable) as refused:
            open_log(f"sqlite:///{path}", ManualClock())
        assert "log.db" in str(refused.value)
        assert contents(folder) == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "url",
    [
        "", "log.db", "sqlite", "sqlite://", "sqlite:///", "sqlite://log.db", "sqlite://host/log.db", "memory://x",
        "memory:///x", "ftp://host/log.db", "postgresql://host/db", "://", None, 5, b"memory://",
        "sqlite:///{}?partitions=0", "sqlite:///{}?partitions=-1", "sqlite:///{}?partitions=x", "sqlite:///{}?partitions=",
        "sqlite:///{}?partitions=10001", "sqlite:///{}?partitions=²", "sqlite:///{}?sync=off", "memory://?partition=2",
    ],
)  # fmt: skip
def test_a_url_that_names_no_log_is_refused(url: Any, path: Path) -> None:
    with pytest.raises(errors.InvalidSetting, match="log URL"):
        open_log(url.format(path) if isinstance(url, str) else url, ManualClock())
    assert contents(path.parent) == {}


def test_a_url_may_say_how_many_partitions(path: Path) -> None:
    for url in (f"sqlite:///{path}?partitions=3", f"sqlite:///{path}", "memory://?partitions=3"):
        log = open_log(url, ManualClock())
        assert log.partitions == 3
        log.close()


def test_a_path_with_odd_characters_is_taken_as_it_is(tmp_path: Path) -> None:
    log = open_log(f"sqlite:///{tmp_path}/a%20b%3Fc%23d.db", ManualClock())
    log.append([message("a")])
    log.close()
    assert list(contents(tmp_path)) == ["a b?c#d.db"]


# ── locks and full disks ──


def test_a_locked_log_says_so_and_works_afterwards(path: Path, log: SqliteLog) -> None:
    log.append([message("a")])
    with locked(path, "EXCLUSIVE"):
        for append in (lambda: log.append([message("b")]), lambda: log.append_soon([message("c")]).result(PATIENCE_S)):
            with pytest.raises(errors.LogUnavailable, match="locked"):
                append()
        assert log.end_offsets() == [1]
    assert log.append([message("d")]) == [Position(0, 1)]
    assert values(log) == [b"a", b"d"]


def test_opening_a_locked_log_says_so(path: Path) -> None:
    make_log(path)
    with locked(path, "EXCLUSIVE"), pytest.raises(errors.LogUnavailable, match="locked"):
        SqliteLog(str(path), ManualClock(), lock_timeout_s=1)
    log = SqliteLog(str(path), ManualClock())
    assert values(log) == [b"a", b"b"]
    log.close()


def test_a_full_disk_changes_nothing_and_is_survived(path: Path, log: SqliteLog) -> None:
    log.append([message("a")])
    writer = log._datastore.writer().raw
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(2):
        with pytest.raises(errors.LogUnavailable, match="full"):
            log.append([message(str(number) * 1_000) for number in range(20)])
        assert log.end_offsets() == [1]
        assert log.read(0, 1, 10) == []
    writer.execute("PRAGMA max_page_count = 1000000")
    assert log.append([message("b")]) == [Position(0, 1)]
    log.close()
    again = SqliteLog(str(path), ManualClock())
    assert values(again) == [b"a", b"b"]
    again.close()


class FailingCommit:
    """A connection whose next COMMIT ends with an error of the disk, before or after it has happened."""

    def __init__(self, raw: sqlite3.Connection, *, happens: bool) -> None:
        self.raw = raw
        self.happens = happens

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            if self.happens:
                self.raw.execute(statement)
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return self.raw.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@pytest.mark.parametrize("happens", [False, True])
def test_an_append_whose_outcome_is_unknown_says_so_and_the_log_goes_on(log: SqliteLog, happens: bool) -> None:
    log.append([message("a")])
    connection = log._datastore.writer()
    connection._sqlite_conn = FailingCommit(connection.raw, happens=happens)
    with pytest.raises(errors.OutcomeUnknown):
        log.append([message("b")])
    there = [b"a", b"b"] if happens else [b"a"]
    assert values(log) == there
    assert log.append([message("c")]) == [Position(0, len(there))]
    assert values(log) == [*there, b"c"]


def test_an_error_reaches_each_caller_as_its_own(path: Path, log: SqliteLog) -> None:
    with locked(path):
        futures = [log.append_soon([message(str(number))]) for number in range(4)]
        failures = [future.exception(PATIENCE_S) for future in futures]
    assert [type(failure) for failure in failures] == [errors.LogUnavailable] * 4
    assert len({id(failure) for failure in failures}) == 4, "one exception raised in several threads mixes their traces"
    assert log.end_offsets() == [0]


def test_missing_records_are_noticed(path: Path, log: SqliteLog) -> None:
    log.append([message(str(number)) for number in range(5)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM stored_events WHERE originator_version = 2")
    other = SqliteLog(str(path), ManualClock())
    assert [record.offset for record in other.read(0, 0, 2)] == [0, 1]
    with pytest.raises(errors.LogMismatch, match="missing"):
        other.read(0, 2, 10)
    other.close()


# ── forks ──


def test_a_forked_child_has_to_open_its_own(path: Path, log: SqliteLog) -> None:
    log.append([message("a")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of what is under test here
        child = os.fork()
    if child == 0:
        faults = 0
        uses: list[Callable[[], object]] = [
            lambda: log.append([message("b")]), lambda: log.append_soon([message("b")]), lambda: log.read(0, 1, 1),
            log.end_offsets, lambda: log.wait(Position(0, 0), 0),
        ]  # fmt: skip
        for use in uses:
            try:
                use()
                faults += 1
            except errors.LogError:
                pass
            except BaseException:
                faults += 10
        try:
            log.close()
        except BaseException:
            faults += 100
        os._exit(min(faults, 255))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert log.append([message("c")]) == [Position(0, 1)]
    assert values(log) == [b"a", b"c"]


# ── group commit and its bounds ──


def test_appends_that_wait_together_are_committed_together(path: Path) -> None:
    with closing(SqliteLog(str(path), ManualClock(), lock_timeout_s=int(PATIENCE_S))) as log:
        before = log.commits
        with locked(path):
            futures = [log.append_soon([message(str(number))]) for number in range(500)]
        assert [future.result(PATIENCE_S) for future in futures] == [[Position(0, number)] for number in range(500)]
        assert 1 <= log.commits - before <= 2


def test_one_call_is_one_transaction_however_large(log: SqliteLog) -> None:
    before = log.commits
    assert log.append([message(str(number)) for number in range(12_000)])[-1] == Position(0, 11_999)
    assert log.commits - before == 1
    assert values(log) == [b"%d" % number for number in range(12_000)]


def test_the_bytes_that_may_wait_are_bounded(path: Path) -> None:
    log = SqliteLog(str(path), ManualClock(), lock_timeout_s=PATIENCE_S, max_waiting_bytes=1_000)
    big = [Message(0, "k", b"x" * 600)]
    with ThreadPoolExecutor(1) as pool:
        with locked(path):
            first = log.append_soon(big)
            with pytest.raises(errors.LogUnavailable, match="1000"):
                log.append_soon(big)
            second: Future[list[Position]] = pool.submit(log.append, big)
            with pytest.raises(TimeoutError):
                second.result(0.2)
            small = log.append_soon([Message(0, "k", b"x" * 400)])
            assert not first.done()
        assert first.result(PATIENCE_S) == [Position(0, 0)]
        assert {tuple(second.result(PATIENCE_S)), tuple(small.result(PATIENCE_S))} == {
            (Position(0, 1),), (Position(0, 2),)
        }  # fmt: skip
    # What is larger than the bound goes alone, or it could never go at all.
    assert log.append([Message(0, "k", b"x" * 5_000)]) == [Position(0, 3)]
    assert log.append_soon(big).result(PATIENCE_S) == [Position(0, 4)]
    log.close()


def test_closing_refuses_those_who_still_wait_for_room(path: Path) -> None:
    log = SqliteLog(str(path), ManualClock(), lock_timeout_s=PATIENCE_S, max_waiting_bytes=10)
    with ThreadPoolExecutor(2) as pool:
        with locked(path):
            first = log.append_soon([Message(0, "k", b"x" * 9)])
            second = pool.submit(log.append, [Message(0, "k", b"y" * 9)])
            with pytest.raises(TimeoutError):
                second.result(0.1)
            closed = pool.submit(log.close)
            with pytest.raises(errors.EngineClosed):
                second.result(PATIENCE_S)
        closed.result(PATIENCE_S)
        assert first.result(PATIENCE_S) == [Position(0, 0)]


# ── the tail in memory ──


def test_the_tail_is_bounded_and_never_has_a_gap() -> None:
    tail = Tail(1, max_records=8, max_bytes=1_000)
    record = [Record(0, offset, 0, "k", b"x" * 10) for offset in range(100)]
    for offset in range(20):
        tail.add(record[offset : offset + 1])
        held = tail.read(0, offset, 99)
        assert held == [record[offset]]
        held = next(found for start in range(offset + 1) if (found := tail.read(0, start, 99)))
        assert held == record[offset + 1 - len(held) : offset + 1]
        assert 4 <= len(held) <= 8 or offset < 4
    tail.add(record[50:52])
    assert [tail.read(0, start, 99) for start in (19, 49, 50, 51, 52)] == [[], [], record[50:52], record[51:52], []]
    tail.add([Record(0, 52, 0, "k", b"x" * 5_000)])
    assert tail.read(0, 51, 99) == []
    assert tail._bytes == [sum(len(each.value or b"") for each in tail._records[0])]

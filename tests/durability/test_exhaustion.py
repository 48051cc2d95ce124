"""Processes that run out: of room in a file, of descriptors, of threads; and a writer that is stopped in a commit.

Each runs in a process of its own, since a limit binds all of it. The limits bind root as well: a file's size
(RLIMIT_FSIZE), descriptors (RLIMIT_NOFILE), and memory for a thread's stack (RLIMIT_AS).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lastseen
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import LogUnavailable
from lastseen.engine.log.sqlite.log import SqliteLog
from tests.patience import PATIENCE_S, paced_s

FULL_FILE = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
engine = opened()
engine.open("kept")
engine.flush()
log_bytes = max(os.path.getsize(path + suffix) for suffix in ("-wal", ".history-wal", ".snapshot-wal"))
resource.setrlimit(resource.RLIMIT_FSIZE, (log_bytes + 20_000, resource.RLIM_INFINITY))
acknowledged, refusals = 1, []
for _ in range(60):
    try:
        acknowledged = engine.touch("kept", message={"text": "x" * 5_000}).version
    except (LogUnavailable, OutcomeUnknown) as error:
        refusals.append(error)
assert len(refusals) > 10, refusals
assert engine.get("kept").version >= acknowledged and engine.count() == 1
try:
    engine.flush()
    raise AssertionError("the snapshot had no room either")
except SnapshotError:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
again = engine.touch("kept")
assert again.version > acknowledged
engine.flush()
digest = engine._views.partitions[0].digest
engine.shutdown()
engine = opened()
assert engine._views.partitions[0].digest == digest and engine.notes == []
assert engine.get("kept").version == again.version
engine.shutdown()
"""
NO_DESCRIPTORS = """
import resource
engine = opened()
engine.open("kept")
lowest, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 2, highest))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
assert engine.touch("kept").version == 2, "what is open goes on"
try:
    opened()
    raise AssertionError("an engine cannot be opened without descriptors")
except (LogUnavailable, SnapshotError):
    pass
assert engine.get("kept").version == 2
for each in taken:
    os.close(each)
assert engine.touch("kept").version == 3
engine.shutdown()
before = len(os.listdir("/dev/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, highest))
engine = opened()
assert engine.get("kept").version == 3
engine.shutdown()
assert len(os.listdir("/dev/fd")) == before, "the engine that did not open left files open"
"""
NO_THREADS = """
import resource, threading
engine = opened()
engine.open("kept")
used = 4096 * int(open("/proc/self/statm").read().split()[0])
threading.stack_size(512 * 1024 * 1024)
resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 1024 * 1024, resource.RLIM_INFINITY))
assert engine.touch("kept").version == 2, "a caller needs no new thread"
before = len(os.listdir("/dev/fd"))
try:
    # On a file of its own: of one that is open elsewhere in the process SQLite closes no descriptor.
    lastseen.open_engine("sqlite:///" + path + ".other", background=False)
    raise AssertionError("an engine cannot be opened without a thread")
except LogUnavailable as error:
    assert "thread cannot be started" in str(error), error
assert len(os.listdir("/dev/fd")) == before, "the engine that did not open left files open"
threading.stack_size(0)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert engine.touch("kept").version == 3
engine.shutdown()
engine = opened(background=True)
assert engine.get("kept").version == 3
engine.shutdown()
"""
HOLD_LOCK = """
import sqlite3
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA synchronous = FULL")
print("ready", flush=True)
sys.stdin.readline()
connection.execute("BEGIN IMMEDIATE")
print("holds", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
print("released", flush=True)
sys.stdin.readline()
"""
BESIDE = """
engine = opened(background=True)
for _ in range(60):
    engine.open("ours")
    engine.touch("shared") or engine.open("shared")
    print(engine.touch("ours").position.offset, flush=True)
engine.shutdown()
"""
_PREFACE = """
import os, sys
import lastseen
from lastseen.engine.errors import LastseenError, LogUnavailable, OutcomeUnknown, SnapshotError
path = sys.argv[1]
def opened(background=False):
    return lastseen.open_engine("sqlite:///" + path, background=background, snapshot_interval="1h")
"""


@contextmanager
def a_process(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script on a log, killed at the end of the block if it still runs."""
    command = [sys.executable, "-c", _PREFACE + script, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def environment() -> dict[str, str]:
    """Ours, and where the product is."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def said(process: subprocess.Popen[str]) -> str:
    """The next line that a process says."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE_S)[0], "the process says nothing"
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process go on to its next step."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("script", [FULL_FILE, NO_DESCRIPTORS, NO_THREADS], ids=["room", "descriptors", "threads"])
def test_an_exhausted_resource_is_reported_and_recovers(tmp_path: Path, script: str) -> None:
    with a_process(script, tmp_path / "log.db") as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors


@pytest.mark.thorough
def test_a_stopped_process_that_holds_the_lock_stops_writers_for_a_while_and_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(str(path), SystemClock(), lock_timeout_s=1)
    try:
        log.append([(0, "key", b"before")])
        with a_process(HOLD_LOCK, path) as holder:
            assert said(holder) == "ready"
            tell(holder)
            assert said(holder) == "holds"
            holder.send_signal(signal.SIGSTOP)
            began = paced_s()
            with pytest.raises(LogUnavailable, match="locked by another process"):
                log.append([(0, "key", b"refused")])
            assert paced_s() - began < 30, "a writer must not wait for ever"
            assert [record.value for record in log.read(0, 0, 10)] == [b"before"]
            holder.send_signal(signal.SIGCONT)
            tell(holder)
            assert said(holder) == "released"
            log.append([(0, "key", b"after")])
        assert [record.value for record in log.read(0, 0, 10)] == [b"before", b"after"]
    finally:
        log.close()


def test_a_process_that_is_stopped_and_goes_on_finds_what_others_wrote_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    engine = lastseen.open_engine(f"sqlite:///{path}", snapshot_interval=20)
    try:
        engine.open("shared")
        offsets: list[int] = []
        with a_process(BESIDE, path) as other:
            offsets.append(int(said(other)))
            for _ in range(5):
                other.send_signal(signal.SIGSTOP)
                try:
                    touched = engine.touch("shared")
                    assert touched is not None
                    offsets.append(touched.position.offset)
                except LogUnavailable:
                    pass  # it was stopped in a commit, and holds the lock
                other.send_signal(signal.SIGCONT)
                offsets.append(int(said(other)))
            rest, errors = other.communicate(timeout=PATIENCE_S)
            offsets += [int(line) for line in rest.split()]
            assert other.returncode == 0, errors
        assert len(set(offsets)) == len(offsets), "two processes received one position"
        engine.open("shared")
        digest = engine._views.partitions[0].digest
    finally:
        engine.shutdown()
    again = lastseen.open_engine(f"sqlite:///{path}", background=False)
    try:
        assert again._views.partitions[0].digest == digest
        assert max(offsets) < again._views.partitions[0].checkpoint
    finally:
        again.shutdown()

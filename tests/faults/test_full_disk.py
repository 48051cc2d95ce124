"""A real disk that is really full, under a working engine: it refuses writes, serves reads, and comes back by itself.

`tests/durability/test_disk_faults.py` makes SQLite's calls fail one by one; here a file system runs out of room.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import lastseen
from tests.durability.test_exhaustion import environment
from tests.faults.places import KINDS, NOT_MOUNTED, command_on, said_of
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough

DISK_BYTES = 8 * 1024 * 1024
PREFACE = """
import errno, os, sys, threading, time
import lastseen
from lastseen.engine.errors import LastseenError, LogUnavailable, SnapshotError
disk, log = sys.argv[1:3]
url, snapshot = "sqlite:///" + log, os.path.join(disk, "log.snapshot")

def opened(**settings):
    return lastseen.open_engine(
        url, idle_ttl="1h", snapshot_interval=50, snapshot=snapshot, archive_interval=None, **settings
    )

def fill():
    '''Take all the room that is left, whatever takes some of it meanwhile.'''
    with open(os.path.join(disk, "ballast"), "ab", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    ballast.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error

def free():
    os.unlink(os.path.join(disk, "ballast"))

def eventually(what):
    give_up = time.monotonic() + 30
    while not what():
        assert time.monotonic() < give_up, "it did not come about"
        threading.Event().wait(0.02)

def say(number):
    '''One touch with a message; whether it was taken.'''
    try:
        engine.touch("kept", message={"number": number, "text": "x" * 5_000})
        return True
    except LogUnavailable as error:
        assert "full" in str(error), error
        return False

def numbers(engine):
    return [message.value["number"] for message in engine.messages("kept")]

def over(taken):
    '''There is room again: what was taken is there, what was refused is not, and a start finds the same.'''
    eventually(lambda: not engine.health())
    engine.flush()
    assert numbers(engine) == taken
    checkpoints = engine.checkpoints()
    assert engine.refold() == []
    engine.shutdown()
    again = opened(background=False)
    assert again.checkpoints() == checkpoints and again.notes == [], again.notes
    assert numbers(again) == taken and again.statistics()["void"] == {}
    assert sum(entry.name == "touched" for entry in again.history("kept")) == len(taken)
    again.shutdown()
"""
LOG_ON_IT = """
engine = opened()
engine.open("kept"), engine.open("other")
taken = [number for number in range(20) if say(number)]
assert taken == list(range(20))
fill()
late = []
for number in range(20, 120):
    (taken if say(number) else late).append(number)
    if number % 20 == 0:
        fill()
assert len(late) > 50, "there was room, so nothing was shown"
try:
    engine.open("new")
    raise AssertionError("there was room")
except LogUnavailable:
    pass
assert engine.get("kept") is not None and engine.get("new") is None and engine.count() == 2, "reads go on"
assert numbers(engine) == taken
assert [each.key for each in engine.list().sessions] == ["other", "kept"]
free()
assert say(120), "it comes back by itself"
taken.append(120)
over(taken)
"""
SNAPSHOT_ON_IT = """
engine = opened()
engine.open("kept")
assert all(say(number) for number in range(20))
engine.flush()
fill()
assert all(say(number) for number in range(20, 400)), "the log has room"
eventually(lambda: "flush" in engine.health())
assert "The log and the reads are not affected" in str(engine.health()["flush"]), engine.health()
try:
    engine.flush()
    raise AssertionError("there was room")
except SnapshotError:
    pass
assert engine.get("kept").version == 401 and engine.count() == 1, "reads go on"
assert numbers(engine) == list(range(400))
free()
over(list(range(400)))
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("script", [LOG_ON_IT, SNAPSHOT_ON_IT], ids=["log", "snapshot"])
def test_without_room_writes_are_refused_reads_go_on_and_it_comes_back(tmp_path: Path, kind: str, script: str) -> None:
    disk = tmp_path / "disk"
    log = (disk if script is LOG_ON_IT else tmp_path) / "log.db"
    command = command_on(kind, disk, DISK_BYTES, PREFACE + script, str(disk), str(log))
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode != NOT_MOUNTED, said_of(kind, done.stderr)
    assert done.returncode == 0, done.stderr
    assert list(disk.iterdir()) == [], "it was not on a disk of its own"
    if log.exists():
        with lastseen.open_engine(f"sqlite:///{log}", background=False, snapshot=":memory:") as engine:
            assert engine.count() == 1

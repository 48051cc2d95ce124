"""Commands that write nothing work where nothing can be written: on read-only media, and with a right to read only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import lastseen
from tests.durability.test_exhaustion import environment
from tests.faults.places import NOT_MOUNTED, said_of
from tests.patience import PATIENCE_S

OWNER = 65534
"""An account whose files another account reads."""
RUN = """
import json, sys
from typer.testing import CliRunner
from lastseen.cli.program import app
for command in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, command)
    print(json.dumps([done.exit_code, done.stdout, done.stderr, repr(done.exception)]))
"""
WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Root without capabilities is an account like any other, and can still read the interpreter wherever that is."""
LEAVE = """
import os, sys, lastseen
engine = lastseen.open_engine("sqlite:///" + sys.argv[1], background=False)
engine.open("chat:2")
engine.flush()
engine.touch("chat:2")
os._exit(0)
"""
"""A process that ends without closing its files: their newest content is in the write-ahead files."""
COMMANDS = (
    ("verify",), ("ls",), ("show", "chat:1"), ("history", "chat:1"), ("explain", "chat:1"), ("stats",),
    ("prune", "--dry-run"), ("rebuild",),
)  # fmt: skip
STATES = ("closed", "left open", "left open, copied without -shm", "without snapshot")


def backup(folder: Path, state: str) -> Path:
    """A folder with a log in it, and what else was copied with it."""
    folder.mkdir()
    path = folder / "log.db"
    with lastseen.open_engine(f"sqlite:///{path}", background=False) as engine:
        engine.open("chat:1", attributes={"owner": "ana"})
        engine.touch("chat:1", message={"text": "hello"})
        engine.archive()
    if state.startswith("left open"):
        subprocess.run([sys.executable, "-c", LEAVE, str(path)], env=environment(), check=True)
        assert path.with_name("log.db-wal").stat().st_size
    for found in folder.iterdir():
        if (state.endswith("-shm") and found.name.endswith("-shm")) or (
            state == "without snapshot" and found.name != "log.db"
        ):
            found.unlink()
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


Done = tuple[int, str, str, str]
"""Exit code, output, messages, and the exception if there was one."""


def on_read_only_media(folder: Path, commands: Sequence[Sequence[str]]) -> list[Done]:
    """Run commands where a folder is mounted read-only, in a namespace of their one process."""
    unshare = shutil.which("unshare")
    assert unshare is not None, "tests of read-only media need `unshare` of util-linux"
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    shell = f'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit {NOT_MOUNTED}; shift; exec "$@"'
    return run(
        [unshare, *user, "--mount", "--propagation", "private", "/bin/sh", "-c", shell, "sh", str(folder)], commands
    )


def as_another_account(commands: Sequence[Sequence[str]]) -> list[Done]:
    """Run commands as an account that has no rights to the files but those of every account."""
    return run(WITHOUT_PRIVILEGES, commands)


def run(how: Sequence[str], commands: Sequence[Sequence[str]]) -> list[Done]:
    done = subprocess.run(
        [*how, sys.executable, "-c", RUN, json.dumps(commands)],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode != NOT_MOUNTED, said_of("read-only folder", done.stderr)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("state", STATES)
def test_commands_that_write_nothing_work_on_read_only_media(tmp_path: Path, state: str) -> None:
    path = backup(tmp_path / "backup", state)
    url, out = f"sqlite:///{path}", tmp_path / "out"
    out.mkdir()
    before = contents(path.parent)
    exports = (
        ("export", "history", str(out / "history.jsonl")), ("export", "sessions", str(out / "sessions.jsonl")),
        ("export", "lives", str(out / "lives.csv")),
    )  # fmt: skip
    commands = [[*command, "--log", url, "-o", "json"] for command in (*COMMANDS, *exports)]
    commands.append(["log", "copy", url, f"sqlite:///{out / 'copy.db'}", "-o", "json"])
    commands.append(["close", "chat:1", "--log", url])
    *read, refused = on_read_only_media(path.parent, commands)
    assert len(read) == len(commands) - 1
    for command, done in zip(commands, read, strict=False):
        assert done[0] == 0, (command, done)
    live = {session["key"]: session["version"] for session in json.loads(read[1][1])["sessions"]}
    assert live == {"chat:1": 2} | ({"chat:2": 2} if state.startswith("left open") else {})
    assert json.loads(read[-1][1])["ok"] is True
    assert refused[0] == 4
    assert "cannot be written: correct its permissions and its folder's" in refused[2]
    assert contents(path.parent) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another account")
@pytest.mark.parametrize("state", ["closed", "left open"])
def test_an_account_that_may_only_read_can_read(tmp_path: Path, state: str) -> None:
    path = backup(tmp_path / "backup", state)
    url = f"sqlite:///{path}"
    for found in (path.parent, *path.parent.iterdir()):
        os.chown(found, OWNER, OWNER)
        found.chmod(0o755 if found.is_dir() else 0o644)
    before = contents(path.parent)
    commands = [[*command, "--log", url, "-o", "json"] for command in COMMANDS]
    *read, refused = as_another_account([*commands, ["close", "chat:1", "--log", url]])
    for command, done in zip(commands, read, strict=True):
        assert done[0] == 0, (command, done)
    assert refused[0] == 4
    assert contents(path.parent) == before
    with lastseen.open_engine(url, background=False) as engine:
        engine.open("chat:3")
        engine.touch("chat:3")
        (done,) = as_another_account([["show", "chat:3", "--log", url, "-o", "json"]])
        assert done[0] == 0, done
        assert json.loads(done[1])["version"] == 2

"""Where snapshot and history of a log on brokers are, unless a setting says it: each engine has a folder to itself."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lastseen.embedded.state_folder import claim, folder_of, left_snapshots, state_home
from tests.patience import PATIENCE_S

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes and accounts are POSIX's")


def test_the_folder_for_state_is_the_first_that_is_named(tmp_path: Path) -> None:
    named, standard = str(tmp_path / "service"), str(tmp_path / "xdg")
    assert state_home({"STATE_DIRECTORY": named, "XDG_STATE_HOME": standard}) == Path(named)
    assert state_home({"STATE_DIRECTORY": f"{named}:{standard}"}) == Path(named)
    assert state_home({"XDG_STATE_HOME": standard}) == Path(standard)


@POSIX
def test_without_a_name_it_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_home({}) == tmp_path / ".local" / "state"
    assert state_home({"XDG_STATE_HOME": "not/absolute"}) == tmp_path / ".local" / "state"
    monkeypatch.setenv("HOME", "/")
    with pytest.raises(OSError, match="no home folder"):
        state_home({})


def test_engines_on_one_log_share_no_folder_and_a_free_one_is_used_again(tmp_path: Path) -> None:
    where = {"XDG_STATE_HOME": str(tmp_path)}
    first, second = claim("log/of=ours", where), claim("log/of=ours", where)
    other = claim("another", where)
    try:
        assert (first.path.name, second.path.name, other.path.name) == ("0", "1", "0")
        assert first.path.parent == folder_of("log/of=ours", where) == tmp_path / "lastseen" / "log_of_ours"
        silent = claim("log/of=ours", where, publishes=False)
        silent.lock.close()
        assert silent.path.name == "silent-0"
        first.lock.close()
        again = claim("log/of=ours", where)
        again.lock.close()
        assert again.path == first.path
    finally:
        second.lock.close()
        other.lock.close()


@POSIX
def test_the_folder_is_private(tmp_path: Path) -> None:
    folder = claim("log", {"XDG_STATE_HOME": str(tmp_path)})
    folder.lock.close()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / "in-use").stat().st_mode) == 0o600


def test_a_killed_engine_holds_no_folder(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom lastseen.embedded.state_folder import claim\n"
        "folder = claim('log', {'XDG_STATE_HOME': sys.argv[1]})\nprint(folder.path.name, flush=True)\n"
        "sys.stdin.read()\n"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "0\n"
        killed.send_signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        killed.wait(PATIENCE_S)
    folder = claim("log", {"XDG_STATE_HOME": str(tmp_path)})
    folder.lock.close()
    assert folder.path.name == "0"


def test_a_folder_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError):
        claim("log", {"XDG_STATE_HOME": str(tmp_path / "file")})
    assert left_snapshots("log", {"XDG_STATE_HOME": str(tmp_path / "file")}) == []


def test_the_snapshot_that_was_written_last_comes_first(tmp_path: Path) -> None:
    where = {"XDG_STATE_HOME": str(tmp_path)}
    folders = [claim("log", where) for _ in range(2)]
    for order, folder in enumerate(reversed(folders)):
        path = Path(folder.snapshot)
        path.write_bytes(b"")
        folder.lock.close()
        os.utime(path, ns=(order, order))
    assert left_snapshots("log", where) == [Path(folder.snapshot) for folder in folders]

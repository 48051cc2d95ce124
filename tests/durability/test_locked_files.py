"""A file that another process keeps locked: the commands end after the lock's time-out, and say so."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.engine.log import file_system, read_only
from lastseen.engine.log.sqlite.file import log_error

COMMANDS = (
    ("ls",), ("show", "chat:1"), ("history", "chat:1"), ("explain", "chat:1"), ("stats",), ("verify",), ("rebuild",),
    ("prune", "--dry-run"),
)  # fmt: skip


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The file, locked as a whole, as `PRAGMA locking_mode = EXCLUSIVE` or a backup tool locks it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA user_version = 1")  # a commit: the write-ahead file is not empty
        yield


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    with lastseen.open_engine(f"sqlite:///{path}", background=False) as engine:
        engine.open("chat:1")
        engine.archive()
    return path


@pytest.fixture(autouse=True)
def _short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (read_only.ReadOnlyFile.__init__, read_only.copy_database):
        monkeypatch.setattr(function, "__defaults__", (0.05,))


@pytest.mark.parametrize("name", ["ENOLCK", "EACCES"])
def test_a_file_system_without_locks_is_not_taken_for_another_process(
    log: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite says the same of both: here another process does hold the lock, and the file system's answer is made up.
    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, name), "made up")

    monkeypatch.setattr(file_system, "_try", refuse)
    for side in ("", ".snapshot"):
        path = log.with_name(f"log.db{side}")
        with locked(path):
            done = CliRunner().invoke(app, ["ls", "--log", f"sqlite:///{log}"])
        assert done.exit_code == 4
        assert f"{path} cannot be locked: its file system" in done.stderr
        assert f"answers a lock with {name} (made up)" in done.stderr
        assert "another process" not in done.stderr


def test_an_input_output_error_names_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = sqlite3.OperationalError("disk I/O error")
    failed.sqlite_errorcode, failed.sqlite_errorname = sqlite3.SQLITE_IOERR_RDLOCK, "SQLITE_IOERR_RDLOCK"  # type: ignore[misc]
    path = tmp_path / "log.db"
    assert "(SQLITE_IOERR_RDLOCK); check that the disk works" in str(log_error(str(path), failed))
    mounts = tmp_path / "mounts"
    mounts.write_text("1 0 0:1 / / rw - cifs //server/share rw\n")
    monkeypatch.setattr(file_system, "MOUNTS", mounts)
    assert "(SQLITE_IOERR_RDLOCK) on cifs, a network file system: keep the log" in str(log_error(str(path), failed))

    def refuse(*_: object) -> None:
        raise OSError(errno.ESTALE, "made up")

    monkeypatch.setattr(file_system, "_try", refuse)
    assert "its file system (cifs) answers a lock with ESTALE (made up)" in str(log_error(str(path), failed))


def test_the_kind_is_that_of_the_nearest_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts, place = tmp_path / "mounts", tmp_path / "a folder"
    mounts.write_text(
        "nonsense\n1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / /nowhere rw - tmpfs tmpfs rw\n"
        f"3 1 0:3 / {str(place).replace(' ', chr(92) + '040')} rw shared:1 - nfs4 server:/home rw\n"
    )
    monkeypatch.setattr(file_system, "MOUNTS", mounts)
    assert [file_system.kind_of(each) for each in (place / "log.db", tmp_path / "a folder2", Path("/x"))] == [
        "nfs4", "ext4", "ext4",
    ]  # fmt: skip
    monkeypatch.setattr(file_system, "MOUNTS", tmp_path / "none")
    assert file_system.kind_of(place) is None
    monkeypatch.undo()
    assert file_system.lock_failure(tmp_path) is None


@pytest.mark.parametrize("side", ["", ".snapshot", ".history"], ids=["log", "snapshot", "history"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_and_names_the_locked_file(log: Path, side: str, command: tuple[str, ...]) -> None:
    path = log.with_name(f"log.db{side}")
    with locked(path):
        done = CliRunner().invoke(app, [*command, "--log", f"sqlite:///{log}"])
    assert done.exit_code == 4, (done.output, done.exception)
    assert f"{path} is locked by another process" in done.stderr
    assert done.stdout == ""

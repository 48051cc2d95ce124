"""A file that another process keeps locked: the commands end after the lock's time-out, and say so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.engine.log import read_only

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


@pytest.mark.parametrize("side", ["", ".snapshot", ".history"], ids=["log", "snapshot", "history"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_and_names_the_locked_file(log: Path, side: str, command: tuple[str, ...]) -> None:
    path = log.with_name(f"log.db{side}")
    with locked(path):
        done = CliRunner().invoke(app, [*command, "--log", f"sqlite:///{log}"])
    assert done.exit_code == 4, (done.output, done.exception)
    assert f"{path} is locked by another process" in done.stderr
    assert done.stdout == ""

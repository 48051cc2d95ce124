"""Files that hold sessions are readable by the account that made them, and by no other."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.compat.gateway.transcripts import Transcripts


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """The mode of each file in a folder, however deep."""
    return {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in folder.rglob("*")
        if path.is_file()
    }


def used(path: Path) -> str:
    """A log that an engine has used: snapshot, history, and an archive with its checksum beside it."""
    url = f"sqlite:///{path}"
    with lastseen.open_engine(url, background=False) as engine:
        engine.open("chat:1", attributes={"owner": "ana"})
        engine.archive()
        assert {f"{path.name}{side}" for side in ("", "-wal", ".snapshot", ".history", ".snapshot.archive-1")} <= set(
            modes(path.parent)
        )
        assert set(modes(path.parent).values()) == {"0o600"}
    return url


def test_a_log_and_what_stands_beside_it(tmp_path: Path) -> None:
    used(tmp_path / "log.db")
    assert set(modes(tmp_path).values()) == {"0o600"}


def test_what_takes_the_place_of_a_damaged_snapshot(tmp_path: Path) -> None:
    url = used(tmp_path / "log.db")
    snapshot = tmp_path / "log.db.snapshot"
    snapshot.write_bytes(b"\x55" * 8_192)
    with lastseen.open_engine(url, background=False) as engine:
        assert engine.get("chat:1") is not None
    assert (tmp_path / "log.db.snapshot.damaged").is_file()
    assert set(modes(tmp_path).values()) == {"0o600"}


def test_a_file_keeps_the_mode_that_its_owner_gave_it(tmp_path: Path) -> None:
    url = used(tmp_path / "log.db")
    for path in tmp_path.iterdir():
        path.chmod(0o640)
    with lastseen.open_engine(url, background=False) as engine:
        engine.open("chat:2")
        engine.flush()
    assert set(modes(tmp_path).values()) == {"0o640"}


@pytest.mark.parametrize("kind", ["history", "sessions", "lives"])
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_exports(tmp_path: Path, kind: str, form: str) -> None:
    url = used(tmp_path / "log.db")
    (tmp_path / "out").mkdir()
    done = CliRunner().invoke(app, ["export", kind, str(tmp_path / "out" / f"it.{form}"), "--log", url])
    assert done.exit_code == 0, done.output
    exported = modes(tmp_path / "out")
    assert exported
    assert set(exported.values()) == {"0o600"}


def test_a_copy_of_a_log(tmp_path: Path) -> None:
    url = used(tmp_path / "log.db")
    (tmp_path / "copy").mkdir()
    done = CliRunner().invoke(app, ["log", "copy", url, f"sqlite:///{tmp_path / 'copy' / 'log.db'}"])
    assert done.exit_code == 0, done.output
    assert set(modes(tmp_path / "copy").values()) == {"0o600"}


def test_transcripts_of_a_gateway(tmp_path: Path) -> None:
    transcripts = Transcripts(tmp_path)
    transcripts.append("20260101_120000_abcdef", {"role": "user"})
    transcripts.rewrite("20260101_130000_abcdef", [{"role": "user"}])
    assert list(modes(tmp_path).values()) == ["0o600", "0o600"]

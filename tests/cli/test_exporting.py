"""`lastseen export` and the import of what it has made, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lastseen
from lastseen.cli.program import app


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A log with a few live sessions."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url, background=False) as engine:
        for number in range(5):
            engine.open(f"key-{number}", attributes={"n": number})
    return url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def figures(*arguments: str) -> Any:
    done = run(*arguments, "--output", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["history", "sessions"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_out_and_in_again(url: str, tmp_path: Path, kind: str, ending: str) -> None:
    file, back = str(tmp_path / f"export.{ending}"), f"sqlite:///{tmp_path / 'back.db'}"
    rows = 6 if kind == "history" else 5  # the history has the genesis record too
    assert figures("export", kind, file, "--log", url) == {"rows": rows, "rows_found": 0, "records_later": 0}
    assert str(rows) in run("export", kind, file, "--log", url).stdout
    imported = figures("import", kind, file, "--log", back)
    assert imported["records_appended"] > 5
    assert figures("import", kind, file, "--log", back)["records_appended"] == 0
    table = run("import", kind, file, "--log", back)
    assert table.exit_code == 0
    assert "export" in table.stdout
    with lastseen.open_engine(back, background=False) as engine:
        assert {view.key for view in engine.list().sessions} == {f"key-{number}" for number in range(5)}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_lives_as_a_table(url: str, tmp_path: Path, ending: str) -> None:
    file = str(tmp_path / f"lives.{ending}")
    assert figures("export", "lives", file, "--log", url) == {"rows": 5, "rows_found": 0, "records_later": 0}
    assert "5" in run("export", "lives", file, "--log", url).stdout
    refused = run("import", "history", file, "--log", "memory://")
    assert refused.exit_code == (2 if ending == "csv" else 4)


def test_what_cannot_be_done_is_said(url: str, tmp_path: Path) -> None:
    done = run("export", "history", str(tmp_path / "export.tsv"), "--log", url)
    assert (done.exit_code, ".jsonl, .csv or .parquet" in done.stderr) == (2, True)
    (tmp_path / "notes.jsonl").write_text("my notes\n")
    done = run("import", "sessions", str(tmp_path / "notes.jsonl"), "--log", url)
    assert (done.exit_code, "not an export of lastseen" in done.stderr) == (4, True)
    file = tmp_path / "sessions.jsonl"
    figures("export", "sessions", str(file), "--log", url)
    file.write_text(file.read_text().replace('"session_id":"', '"session_id":"é', 1))
    done = run("import", "sessions", str(file), "--log", f"sqlite:///{tmp_path / 'back.db'}")
    assert done.exit_code == 0
    assert "skipped key-" in done.stderr

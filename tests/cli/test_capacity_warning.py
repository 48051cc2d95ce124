"""A lowered `max_sessions` ends sessions at the next start: the start says how many; doctor and validate, before it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import lastseen
from lastseen.cli.program import app


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of this machine, nor a service on it, has a say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTSEEN_PORT", "0")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A log with 15 live sessions in two partitions, and its snapshot."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url, background=False, partitions=2) as engine:
        for number in range(15):
            engine.open(f"key-{number}")
    return url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


@pytest.mark.parametrize(("most", "ended"), [(5, 10), (14, 1), (15, 0), (None, 0)])
def test_a_start_says_how_many_it_ends(
    url: str, caplog: pytest.LogCaptureFixture, most: int | None, ended: int
) -> None:
    caplog.set_level(logging.WARNING, logger="lastseen")
    with lastseen.open_engine(url, background=False, max_sessions=most) as engine:
        said = [record.getMessage() for record in caplog.records if "max_sessions" in record.getMessage()]
        assert len(engine.prune(dry_run=True).due) == ended
    if ended:
        assert len(said) == 1
        assert f"max_sessions is {most}, and 15 sessions live" in said[0]
        assert f"the pruner ends the {ended} least recently used" in said[0]
    else:
        assert said == []


def test_an_engine_that_does_not_prune_says_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with lastseen.open_engine(url, prune=False, max_sessions=5):
        assert "max_sessions" not in caplog.text


def test_the_doctor_says_it_before_the_start(url: str) -> None:
    def capacity(*arguments: str) -> tuple[int, list[dict[str, str]]]:
        result = run("doctor", "--log", url, "--json", *arguments)
        found = json.loads(result.stdout)["findings"]
        return result.exit_code, [each for each in found if each["check"] == "capacity"]

    assert capacity() == (0, [])
    exit_code, (enough,) = capacity("--set", "max_sessions=15")
    assert (exit_code, enough["severity"]) == (0, "ok")
    exit_code, (short,) = capacity("--set", "max_sessions=5")
    assert (exit_code, short["severity"]) == (1, "warning")
    assert "15 sessions live, and max_sessions is 5: a start ends the 10" in short["says"]
    assert "raise max_sessions" in short["next_step"]


def test_validate_warns_where_it_can_know(url: str, tmp_path: Path) -> None:
    result = run("config", "validate", "--set", f"log={url}", "--set", "max_sessions=5")
    assert result.exit_code == 0, "the settings are valid"
    assert "warning: 15 sessions live, and max_sessions is 5: a start ends the 10" in result.stderr
    for enough in (
        ["--set", f"log={url}", "--set", "max_sessions=15"],
        ["--set", f"log={url}"],
        ["--set", f"log={url}", "--set", "max_sessions=5", "--set", "snapshot=:memory:"],
        ["--set", f"log=sqlite:///{tmp_path / 'none.db'}", "--set", "max_sessions=5"],
        ["--set", "log=kafka://host:9092/topic", "--set", "max_sessions=5"],
    ):
        result = run("config", "validate", *enough)
        assert (result.exit_code, "warning" in result.stderr) == (0, False), result.stderr
    (tmp_path / "log.db.snapshot").write_bytes(b"no database")
    assert run("config", "validate", "--set", f"log={url}", "--set", "max_sessions=5").exit_code == 0

"""`lastseen close`, `suspend` and `resume`: by key, owner and prefix, and as a dry run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lastseen
from lastseen.cli.program import app
from lastseen.engine.session import Status


@pytest.fixture
def log(tmp_path: Path) -> Iterator[str]:
    """A log with two sessions of Ana and one of Bob."""
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url) as engine:
        for key, owner in (("web:1", "ana"), ("chat:1", "ana"), ("web:2", "bob")):
            engine.open(key, attributes={"owner": owner})
    return url  # type: ignore[return-value]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def results_of(*arguments: str, exit_code: int = 0) -> list[tuple[str, str]]:
    result = run(*arguments, "-o", "json")
    assert result.exit_code == exit_code, result.output
    return [(each["key"], each["result"]) for each in json.loads(result.stdout)["results"]]


def live(log: str) -> dict[str, Status]:
    with lastseen.open_engine(log) as engine:
        return {session.key: session.status for session in engine.list(sort="created").sessions}


def test_a_dry_run_says_which_and_writes_nothing(log: str) -> None:
    result = run("close", "--owner", "ana", "--dry-run", "--log", log)
    assert result.exit_code == 0
    assert "web:1" in result.output
    assert "2 would be ended; this is a dry run, nothing was written" in result.output
    assert len(live(log)) == 3


def test_the_sessions_of_an_owner_end(log: str) -> None:
    assert results_of("close", "--owner", "ana", "--reason", "revoked", "--log", log) == [
        ("web:1", "applied"),
        ("chat:1", "applied"),
    ]
    assert list(live(log)) == ["web:2"]
    assert "revoked" in run("explain", "chat:1", "--log", log).output


def test_sessions_under_a_prefix_are_suspended_and_resumed(log: str) -> None:
    assert len(results_of("suspend", "--prefix", "web:", "--log", log)) == 2
    assert live(log) == {"web:1": Status.SUSPENDED, "chat:1": Status.ACTIVE, "web:2": Status.SUSPENDED}
    assert results_of("suspend", "--prefix", "web:", "--log", log) == [], "only active ones are meant"
    assert results_of("resume", "web:1", "--log", log) == [("web:1", "applied")]
    assert len(results_of("resume", "--owner", "bob", "--log", log)) == 1
    assert set(live(log).values()) == {Status.ACTIVE}


def test_named_keys_that_are_refused_end_with_exit_code_1(log: str) -> None:
    assert results_of("close", "absent", "web:2", "--log", log, exit_code=1) == [
        ("absent", "refused"),
        ("web:2", "applied"),
    ]
    refused = run("resume", "web:1", "--log", log)
    assert refused.exit_code == 1
    assert "0 resumed, 1 refused" in refused.output


@pytest.mark.parametrize("command", ["close", "suspend", "resume"])
@pytest.mark.parametrize("wanted", [
    (), ("--prefix", ""), ("web:1", "--owner", "ana"), ("--owner", ""), ("--owner", "", "--prefix", "web:"),
    ("--owner", "ana", "--prefix", ""),
])  # fmt: skip
def test_without_saying_whose_nothing_happens(log: str, command: str, wanted: Any) -> None:
    result = run(command, *wanted, "--log", log)
    assert result.exit_code == 2
    assert set(live(log).values()) == {Status.ACTIVE}
    assert len(live(log)) == 3


@pytest.mark.parametrize("filter_option", ["--owner", "--prefix", "--status"])
def test_a_listing_does_not_take_an_empty_filter_for_all(log: str, filter_option: str) -> None:
    result = run("ls", filter_option, "", "--log", log)
    assert result.exit_code == 2
    assert "or leave" in result.output
    assert "web:1" not in result.output

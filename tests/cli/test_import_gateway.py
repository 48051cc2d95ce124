"""`lastseen import gateway`, through its real entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lastseen
from lastseen.cli.program import app

KEY = "agent:main:telegram:dm:7"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LASTSEEN_LOG", raising=False)


def entry(key: str, **other: Any) -> dict[str, Any]:
    """An entry as the old store wrote it, in local time."""
    return {
        "session_key": key, "session_id": "20260101_120000_0badcafe", "created_at": "2026-01-01T12:00:00",
        "updated_at": "2026-01-02T12:00:00", **other,
    }  # fmt: skip


def run(*arguments: str) -> Result:
    """Run the import into a log of its own."""
    return CliRunner().invoke(app, ["import", "gateway", "sessions.json", "--log", "sqlite:///new.db", *arguments])


def test_the_sessions_are_live_and_the_bad_entries_are_listed() -> None:
    store = {KEY: entry(KEY), "agent:main:telepathy:dm:8": entry("agent:main:telepathy:dm:8", platform="telepathy")}
    store["bad\x1b[2J"] = {}
    Path("sessions.json").write_text(json.dumps(store), "utf-8")
    result = run("--timezone", "Asia/Tokyo", "-o", "json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["entries"], figures["imported"], figures["appended"]) == (3, 1, 4)
    assert [each["key"] for each in figures["skipped"]] == ["agent:main:telepathy:dm:8", "bad\x1b[2J"]
    assert "unknown platform 'telepathy'" in result.stderr
    assert "\x1b" not in result.stderr
    with lastseen.open_engine("sqlite:///new.db", background=False) as engine:
        session = engine.get(KEY)
        assert session is not None
        assert session.last_active_at_ms == 1_767_322_800_000  # 2026-01-02T03:00:00Z, noon in Tokyo


def test_a_platform_of_a_plugin_is_brought_over_where_it_is_named() -> None:
    key = "agent:main:pigeon:dm:9"
    Path("sessions.json").write_text(json.dumps({key: entry(key, platform="pigeon")}), "utf-8")
    result = run("--platform", "pigeon")
    assert result.exit_code == 0, result.output
    assert "sessions imported" in result.stdout
    assert "skipped agent" not in result.stderr


def test_a_field_that_was_corrected_is_named() -> None:
    key = "agent:main:telegram:dm:9"
    Path("sessions.json").write_text(json.dumps({key: entry(key, total_tokens="5\x1b[2J")}), "utf-8")
    result = run()
    assert result.exit_code == 0, result.output
    assert f"corrected {key}: total_tokens: it is '5" in result.stderr
    assert "\x1b" not in result.stderr


def test_only_twenty_of_the_skipped_are_named() -> None:
    Path("sessions.json").write_text(json.dumps({f"bad-{number}": None for number in range(25)}), "utf-8")
    result = run()
    assert result.exit_code == 0, result.output
    assert result.stderr.count("skipped bad-") == 20
    assert "5 more were skipped" in result.stderr


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, [], "cannot be read"),
        ("{", [], "is not JSON"),
        ("[]", [], "does not hold a JSON object"),
        ("{}", ["--timezone", "Mars/Olympus"], "timezone = 'Mars/Olympus'"),
        ("{}", ["--platform", " "], "give its name"),
    ],
)
def test_what_is_no_store_is_refused_and_nothing_is_written(
    content: str | None, arguments: list[str], says: str
) -> None:
    if content is not None:
        Path("sessions.json").write_text(content, "utf-8")
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not Path("new.db").exists()


def test_a_log_that_holds_anything_else_is_refused() -> None:
    Path("sessions.json").write_text("{}", "utf-8")
    with lastseen.open_engine("sqlite:///new.db", background=False) as engine:
        engine.create("another's")
    result = run()
    assert result.exit_code == 4
    assert "give a log that is empty" in result.stderr.lower()

"""`lastseen serve` and `lastseen dev`: what their flags become, and what they refuse before anything is begun."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lastseen.monitoring.log_format
import lastseen.service.process
from lastseen.cli.program import app
from lastseen.configuration.configuration import Configuration

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LASTSEEN_LOG", "LASTSEEN_CONFIG", "LASTSEEN_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lastseen.monitoring.log_format, "set_up", lambda *_: None)


def run(*arguments: str, **environment: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, arguments, env=environment)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Configuration, dict[str, Any]]]:
    """What the service was asked to do, instead of doing it."""
    asked: list[tuple[Configuration, dict[str, Any]]] = []

    def serve(configuration: Configuration, **more: Any) -> None:
        asked.append((configuration, more))

    monkeypatch.setattr(lastseen.service.process, "serve", serve)
    return asked


def test_every_flag_of_serve_is_a_setting(served: list[tuple[Configuration, dict[str, Any]]], tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text("burst = 9\n")
    result = run(
        "serve", "--log", "sqlite:///a.db", "--host", "::1", "--port", "8400", "--roles", "api,view,snapshot",
        "--token-file", "tokens.json", "--snapshot", "a.snapshot", "--idle-ttl", "3m", "--max-sessions", "7",
        "--log-level", "debug", "--log-format", "lines", "--profile", "high_traffic", "--config", "more.toml",
        "--set", "touch-precision=1s",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    ((configuration, _),) = served
    service, engine = configuration.service, configuration.engine
    assert (service.log, service.host, service.port) == ("sqlite:///a.db", "::1", 8400)
    assert (service.roles, service.token_file, service.burst) == (("api", "view", "snapshot"), "tokens.json", 9)
    assert (service.log_level, service.log_format) == ("debug", "lines")
    assert (engine["snapshot"], engine["idle_ttl"], engine["max_sessions"]) == ("a.snapshot", "3m", 7)
    assert (engine["prune"], engine["facts"], engine["touch_precision"]) == (False, False, "1s")


def test_dev_keeps_to_itself(served: list[tuple[Configuration, dict[str, Any]]], tmp_path: Path) -> None:
    (tmp_path / "lastseen.toml").write_text('log = "kafka://production:9092/sessions"\nhost = "0.0.0.0"\n')
    result = run("dev", LASTSEEN_LOG="kafka://production:9092/sessions", LASTSEEN_TOKEN_FILE="tokens.json")
    assert result.exit_code == 0, result.stderr
    configuration, more = served.pop()
    service = configuration.service
    assert (service.log, service.host, service.port) == ("sqlite:///lastseen-dev.db", "127.0.0.1", 8321)
    assert (service.token_file, configuration.profile.value, service.log_format) == (None, "development", "lines")
    assert configuration.engine["idle_ttl"] == "5m"
    assert more["companions"] == []
    result = run(
        "dev", "--ephemeral", "--demo", "--speed", "600", "--port", "0", "--config", "lastseen.toml", "--set", "burst=5"
    )
    assert result.exit_code == 0, result.stderr
    configuration, more = served.pop()
    assert (configuration.service.log, configuration.service.port, configuration.service.burst) == ("memory://", 0, 5)
    assert len(more["companions"]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "many", "--log-level", "loud"], "2 settings are wrong"),
        (["--roles", "api"], "every other role needs view"),
        (["--host", "0.0.0.0"], "can be reached from other machines, and the service has no tokens"),
        (["--token-file", "nowhere.json"], "nowhere.json' cannot be read"),
    ],
)
def test_what_cannot_be_served_is_refused(arguments: list[str], says: str, tmp_path: Path) -> None:
    result = run("serve", "--log-format", "lines", *arguments)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_its_libraries_the_service_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    result = run("serve")
    assert result.exit_code == 2
    assert result.stderr == "lastseen: the service needs uvicorn: install lastseen[service]\n"


def test_the_commands_load_no_server_before_they_need_one() -> None:
    heavy = ("fastapi", "uvicorn", "starlette")
    loads = "import sys, lastseen.cli.program, lastseen.service.process"
    code = f"{loads}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", "`lastseen ls` would wait for it"

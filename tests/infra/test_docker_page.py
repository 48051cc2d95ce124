"""The page on Docker: its containers are configured rightly, its commands exist, and its ports are those of compose."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import yaml
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.configuration.configuration import configure

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "infra" / "docker" / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
LINES = [shlex.split(line) for line in re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)]
STATE = "/var/lib/lastseen"


def inside(words: list[str]) -> list[str]:
    """What `docker run` or `docker exec` runs in the container."""
    return words[words.index("lastseen", 1 + words.index("lastseen:0.1.0") if "run" in words else 3) :]


def values(words: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(words) if name == option]


(SERVICE,) = [words for words in LINES if "--detach" in words and "run" in words]


def test_the_service_takes_its_settings_and_keeps_everything_in_its_volume() -> None:
    given = dict(value.split("=", 1) for value in values(SERVICE, "--env"))
    image = dict(re.findall(r"(LASTSEEN_\w+)=(\S+)", DOCKERFILE.rpartition("FROM ")[2]))
    settings = configure(environment=image | given).service
    assert values(SERVICE, "--volume") == [f"lastseen:{STATE}"]
    assert settings.log.startswith(f"sqlite:///{STATE}/")
    assert str(settings.token_file).startswith(f"{STATE}/")
    assert values(SERVICE, "--publish") == [f"127.0.0.1:{settings.port}:{settings.port}"]
    assert image["LASTSEEN_SNAPSHOT"].startswith(f"{STATE}/")


def test_the_page_hardens_the_container_as_compose_does() -> None:
    engine = COMPOSE["engine-1"]
    assert "--read-only" in SERVICE
    assert engine["read_only"]
    assert values(SERVICE, "--tmpfs") == engine["tmpfs"]
    assert values(SERVICE, "--cap-drop") == engine["cap_drop"]
    assert [value.replace(":true", "") for value in engine["security_opt"]] == values(SERVICE, "--security-opt")
    assert values(SERVICE, "--stop-timeout") == [engine["stop_grace_period"].removesuffix("s")]


def test_what_it_runs_in_a_container_works(tmp_path: Path) -> None:
    ran = []
    for words in LINES:
        if words[:2] in (["docker", "run"], ["docker", "exec"]) and words is not SERVICE:
            command = [word.replace(STATE, str(tmp_path)) for word in inside(words)[1:]]
            if "--log" in command:
                configured = command[command.index("--log") + 1]
                assert configured == values(SERVICE, "--env")[0].partition("=")[2].replace(STATE, str(tmp_path))
                lastseen.open_engine(configured).shutdown()
            assert CliRunner().invoke(app, command).exit_code == 0, command
            ran.append(command[0])
    assert ran == ["token", "ls"]


def test_its_table_has_the_ports_of_compose() -> None:
    shown = dict(re.findall(r"^\| `([\w-]+)` \| (\d+) \|", PAGE, re.MULTILINE))
    published = {name: each["ports"][0].split(":")[1] for name, each in COMPOSE.items() if "ports" in each}
    assert shown == published
    assert ["docker", "compose", "logs", "tokens"] in LINES
    assert "tokens" in COMPOSE

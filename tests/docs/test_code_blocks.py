"""What README and the docs show is run: Python as it stands, requests by curl, commands and targets by their names."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from kafka_fixtures import SharedBroker

import lastseen
from lastseen.compat.gateway import GatewayConfig
from lastseen.docs.cli_page import commands
from lastseen.engine.log.kafka.new_log import create_log
from lastseen.engine.log.kafka.topic import NewTopics
from lastseen.engine.log.kafka.url import parse_kafka_url
from tests.patience import PATIENCE_S
from tests.service import curl_program
from tests.service.running import Running

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "how-to").glob("compat-*.md")),
    ROOT / "infra" / "docker" / "README.md",
    ROOT / "infra" / "kubernetes" / "README.md",
]
"""Pages whose blocks lean on what stands around them; test_docs_stories.py does all others from beginning to end."""
BY_OTHERS = {"compat-manager.md", "compat-lru.md"}
"""Pages whose Python is run by tests/compat, with what it needs around it."""
SERVICE, KAFKA, SNAPSHOT = "127.0.0.1:8321", "kafka://localhost:9092/sessions", "/var/lib/lastseen/sessions.snapshot"


class Processes:
    """A gateway's own register of what runs."""

    def has_active_for_session(self, _: str) -> bool:
        """Nothing runs."""
        return False


def blocks(language: str) -> Iterator[Any]:
    """Every block of a language, named after its page and line."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 1
            yield pytest.param(found[1], id=f"{page.name}:{line}", marks=())


def console_lines() -> Iterator[tuple[str, str]]:
    """Every command that a page shows, with the page."""
    for block in blocks("console"):
        for line in block.values[0].splitlines():
            if line.startswith("$ "):
                yield line[2:].partition("  #")[0].strip(), str(block.id)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a service is."""
    with Running(tmp_path_factory.mktemp("service"), "--port", "0") as running:
        yield running.address().removeprefix("http://")


@pytest.mark.parametrize("code", [each for each in blocks("python") if each.id.partition(":")[0] not in BY_OTHERS])
def test_python_runs_as_it_stands(
    code: str, service: str, kafka_broker: SharedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"kafka://{kafka_broker.address}/docs-{uuid.uuid4().hex}"
    if KAFKA in code:
        create_log(parse_kafka_url(url), NewTopics(2))
    code = code.replace(KAFKA, url).replace(SERVICE, service).replace(SNAPSHOT, str(tmp_path / "snapshot"))
    # A stream has no end: one fact is enough.
    code = code.replace('client.events("0")', 'islice(client.events("0"), 1)')
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"lastseen": lastseen, "token": None, "islice": islice, "print": lambda *_: None}
    names |= {"sessions_dir": tmp_path, "config": GatewayConfig(), "processes": Processes()}
    exec_(code, names)
    for value in names.values():
        for opened in (value, getattr(value, "engine", None)):
            if isinstance(opened, lastseen.Engine | lastseen.Emitter):
                opened.shutdown()


def exec_(code: str, names: dict[str, Any]) -> None:
    """Run a block, in an event loop if it awaits anything."""
    compiled = compile(code, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if compiled.co_flags & inspect.CO_COROUTINE:

        async def run() -> None:
            await eval(compiled, names)

        asyncio.run(run())
    else:
        exec(compiled, names)


@pytest.mark.parametrize("line", [line for line, _ in console_lines() if line.startswith("curl ")])
def test_a_request_is_answered(line: str, service: str) -> None:
    is_stream = "/stream" in line
    words = [*shlex.split(line.replace(SERVICE, service)), "--fail", "--max-time", "1" if is_stream else "20"]
    done = subprocess.run([curl_program.choose(), *words[1:]], capture_output=True, text=True, timeout=PATIENCE_S)
    # A stream does not end by itself: curl's 28 says that its time was over.
    assert done.returncode == (28 if is_stream else 0), done.stderr
    assert done.stdout


@pytest.mark.parametrize(("line", "place"), list(console_lines()))
def test_a_command_exists_with_its_options(line: str, place: str) -> None:
    words = shlex.split(line)
    program = Path(words[0]).name
    if program == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        assert re.search(rf"^{re.escape(words[1])}:", makefile, re.MULTILINE), place
    elif program == "lastseen":
        known = commands()
        name = next(name for size in (3, 2, 1) if (name := " ".join(words[1 : 1 + size])) in known)
        command = known[name]
        options = {spelling for option in command.params for spelling in option.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= options | {"--help", "-h"}, place
    else:
        assert program in ("curl", "docker", "kubectl", "pip"), f"{place}: is {program} what a reader has?"

"""Clients that are generated from the description of the API: generated without a warning, compiled, and used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
from served import Served

from infra.kafka import packages
from lastseen import Engine

GENERATED = Path(__file__).with_name("generated")
DESCRIPTION = Path(__file__).parents[2] / "docs" / "openapi.json"
TIMEOUT_S = 300
USED = {
    "owner": "ana", "offset": 1, "accepted": 202, "mood": "fine", "version": 2, "listed": ["telegram:42"],
    "refused": 422,
}  # fmt: skip
"""What both programs find."""


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """What a command prints; what it complains of, where it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.thorough
def test_a_python_client(tmp_path: Path, served: Served, engine: Engine) -> None:
    venv.create(tmp_path / "tools", with_pip=True)
    binaries = tmp_path / "tools" / "bin"
    python = binaries / "python"
    lock = GENERATED / "openapi-python-client.lock"
    run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", lock], tmp_path)
    run(
        [binaries / "openapi-python-client", "generate", "--path", DESCRIPTION, "--output-path", tmp_path / "client",
         "--fail-on-warning"],
        tmp_path, PATH=f"{binaries}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    run([python, "-m", "compileall", "-q", tmp_path / "client"], tmp_path)
    said = run([python, GENERATED / "use.py", served.address], tmp_path, PYTHONPATH=str(tmp_path / "client"))
    assert json.loads(said) == USED
    assert [message.value for message in engine.messages("telegram:42")] == [{"text": "hello"}]


@pytest.mark.thorough
def test_a_typescript_client(tmp_path: Path, served: Served, engine: Engine) -> None:
    npm = shutil.which("npm") or (packages.install(["npm"], why="openapi-typescript") and shutil.which("npm"))
    node = shutil.which("node")
    assert npm, "npm brings openapi-typescript: apt-get install npm"
    assert node, "node runs what TypeScript makes: apt-get install nodejs"
    for name in ("package.json", "package-lock.json", "tsconfig.json", "use.ts"):
        shutil.copy(GENERATED / name, tmp_path)
    run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], tmp_path)
    tools = tmp_path / "node_modules" / ".bin"
    run([tools / "openapi-typescript", DESCRIPTION, "-o", "api.ts"], tmp_path)
    run([tools / "tsc"], tmp_path)
    assert json.loads(run([node, "use.js", served.address], tmp_path)) == USED
    assert [message.value for message in engine.messages("telegram:42")] == [{"text": "hello"}]


def test_the_description_keeps_to_what_generators_read() -> None:
    def faults(schema: object) -> list[object]:
        if isinstance(schema, list):
            return [fault for each in schema for fault in faults(each)]
        if not isinstance(schema, dict):
            return []
        found = [fault for each in schema.values() for fault in faults(each)]
        is_bare = schema.get("type") == "object" and not schema.keys() & {"properties", "additionalProperties"}
        return [schema, *found] if schema.get("items") is False or schema.get("enum") == [True] or is_bare else found

    description = json.loads(DESCRIPTION.read_text("utf-8"))
    assert faults(description) == []
    for name, schema in description["components"]["schemas"].items():
        for field, member in schema.get("properties", {}).items():
            assert "default" not in member, f"{name}.{field} must be given, to openapi-typescript"

"""Exports and imports without room on the disk: exit code 4 and a message, and with room they succeed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lastseen
from tests.durability.test_exhaustion import environment
from tests.patience import PATIENCE_S

SCRIPT = """
import json, pathlib, resource, signal, sys, tempfile
from typer.testing import CliRunner
from lastseen.cli.program import app
folder, url = pathlib.Path(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def run(*arguments):
    done = CliRunner().invoke(app, list(arguments))
    has_message = done.exception is None or isinstance(done.exception, SystemExit)
    return [done.exit_code, done.stderr if has_message else repr(done.exception)]

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

exports = {f"{kind}.{form}": ("export", kind, str(folder / f"{kind}.{form}"), "--log", url)
           for kind, form in (("history", "jsonl"), ("history", "csv"), ("history", "parquet"), ("sessions", "jsonl"))}
imports = {f"import {kind}.{form}": ("import", kind, str(folder / f"{kind}.{form}"), "--log", "memory://")
           for kind, form in (("history", "jsonl"), ("history", "parquet"), ("sessions", "jsonl"))}
found = {"exports": {}, "imports": {}, "later": {}}
room(1_024)
for name, words in exports.items():
    found["exports"][name] = run(*words)
room(resource.RLIM_INFINITY)
for name, words in exports.items():
    found["later"][name] = run(*words)
room(16_384)
for name, words in imports.items():
    found["imports"][name] = run(*words)
room(resource.RLIM_INFINITY)
for name, words in imports.items():
    found["later"][name] = run(*words)
tempfile.tempdir = str(folder / "none")
for name, words in imports.items():
    found["imports"][f"{name}, no folder"] = run(*words)
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of a file's size")
def test_without_room_they_end_with_a_message_and_later_succeed(tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "exports"
    with lastseen.open_engine(url, background=False) as engine:
        for number in range(60):
            engine.open(f"key-{number}", attributes={"text": f"{number} " * 200})
    folder.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), url],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, (code, said) in (found["exports"] | found["imports"]).items():
        assert code == 4, f"{name}: {said}"
        # An export of sessions reads a copy of the snapshot, which is what finds no room first.
        assert said.startswith("lastseen: ") if name == "sessions.jsonl" else "ree some space" in said, said
    assert {name: code for name, (code, _) in found["later"].items()} == dict.fromkeys(found["later"], 0), found
    assert len(found["later"]) == 7
    assert not list(folder.rglob("*.writing"))

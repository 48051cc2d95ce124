"""A terminal or a pipe that has no Unicode gets every character, escaped: no command ends with a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lastseen

ROOT = Path(__file__).resolve().parents[2]
KEY = "chat:Übér"
MESSAGE = {"text": "日本語 🙂"}


@pytest.fixture
def log(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    with lastseen.open_engine(url) as engine:
        engine.open(KEY)
        engine.touch(KEY, message=MESSAGE)
        engine.open("chat:日本")
    return url


def output(encoding: str, *arguments: str) -> bytes:
    """What the entry point prints where the streams have this encoding."""
    done = subprocess.run(
        [sys.executable, "-c", "from lastseen.cli import main; main()", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_table_shows_what_the_encoding_has_and_escapes_the_rest(log: str, encoding: str) -> None:
    shown = output(encoding, "show", KEY, "--log", log).decode(encoding)
    assert KEY.encode(encoding, "backslashreplace").decode(encoding) in shown
    assert r"\u65e5\u672c\u8a9e \U0001f642" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_is_the_same_value_in_every_encoding(log: str, encoding: str, form: str) -> None:
    written = output(encoding, "show", KEY, "--log", log, "-o", form)
    found = json.loads(written.decode("utf-8"))
    assert found["key"] == KEY
    assert found["messages"][0]["message"] == MESSAGE


def test_a_sentence_is_printed_in_every_encoding(log: str) -> None:
    assert output("latin-1", "explain", KEY, "--log", log).decode("latin-1").startswith(f"{KEY} is active")
    assert output("latin-1", "explain", "chat:日本", "--log", log).startswith(rb"chat:\u65e5\u672c is active")

"""A peer in a process of its own answers line by line; if it ends, it is missing, with its last words."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.probe import Probe
from benchmarks.servers import PeerMissing

pytestmark = pytest.mark.thorough

ECHO = "import sys, json\nprint(json.dumps('here'), flush=True)\nfor l in sys.stdin: print(json.dumps(l), flush=True)"


def test_it_is_asked_and_answers(tmp_path: Path) -> None:
    with closing(Probe("echo", [sys.executable, "-c", ECHO], tmp_path / "said.txt")) as probe:
        assert probe.ready == "here"
        assert probe.ask("touch", 4) == "touch 4\n"
    assert probe._child.returncode == 0


def test_one_that_cannot_begin_is_missing_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(PeerMissing, match="echo: its process ended: ImportError: no such thing"):
        Probe("echo", [sys.executable, "-c", "raise ImportError('no such thing')"], tmp_path / "said.txt")


def test_one_that_ends_on_the_way_is_missing(tmp_path: Path) -> None:
    short = "print(1, flush=True); input(); raise SystemExit('enough')"
    with (
        closing(Probe("echo", [sys.executable, "-c", short], tmp_path / "said.txt")) as probe,
        pytest.raises(PeerMissing, match="enough"),
    ):
        probe.ask("again")

"""What an older Python says of lastseen: one sentence of lastseen's own, before any dependency can fail."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
PACKAGE_FILE = ROOT / "lastseen" / "__init__.py"
OLDER = ("python3.10", "python3.9", "python3.8", "python3.7", "python3.6")
AS_AN_OLDER_ONE = """
import sys

class NothingIsInstalled:
    def find_spec(self, name, path=None, target=None):
        if name != "lastseen":
            raise AssertionError(f"{name} was imported first")

sys.meta_path.insert(0, NothingIsInstalled())
sys.version_info, sys.version = (3, 10, 13, "final", 0), "3.10.13 (main)"
import lastseen
"""


def last_words(*command: str) -> str:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    return ended.stderr.splitlines()[-1]


def test_an_older_python_gets_one_sentence_before_anything_else_is_imported() -> None:
    wanted = f"ImportError: lastseen needs Python 3.11 or newer, and this is Python 3.10.13 ({sys.executable}):"
    assert last_words(sys.executable, "-c", AS_AN_OLDER_ONE) == f"{wanted} install it in a newer one"


def test_an_older_python_can_read_that_sentence() -> None:
    ast.parse(PACKAGE_FILE.read_text(encoding="utf-8"), feature_version=(3, 6))


def test_those_that_this_machine_has_say_so() -> None:
    found = [program for name in OLDER if (program := shutil.which(name)) and runs(program)]
    for program in found:
        assert last_words(program, "-c", "import lastseen").startswith("ImportError: lastseen needs Python 3.11")


def test_pip_on_an_older_python_names_lastseen_and_not_a_dependency() -> None:
    """Before version 24.1, pip looks up dependencies first; eventsourcing has none of our range for Python 3.10."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {each.name: each for each in map(Requirement, project["dependencies"])}
    assert not SpecifierSet(metadata("eventsourcing")["Requires-Python"]).contains("3.10.13")
    marker = needed["eventsourcing"].marker
    assert marker is not None
    assert [marker.evaluate({"python_version": version}) for version in ("3.9", "3.10", "3.11")] == [False, False, True]


def runs(program: str) -> bool:
    """Whether it is a Python, rather than what names one that is not installed."""
    return subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0

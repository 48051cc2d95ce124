"""Which Pythons are found: those that run, once for each version."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.pythons.interpreters import Interpreter, installed


def put(folder: Path, name: str, script: str) -> Path:
    """A stand-in for a Python."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n", "ascii")
    program.chmod(0o755)
    return program


def test_pythons_that_run_are_found_once_a_version(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    first = put(one, "python3.12", "echo 3.12.1 cpython")
    put(two, "python3.12", "echo 3.12.1 cpython")
    late = put(tmp_path / "pyenv" / "versions" / "3.100.0" / "bin", "python3.100", "echo 3.100.0 cpython")
    assert installed(f"{one}:{two}", tmp_path / "pyenv") == [Interpreter("3.12.1", first), Interpreter("3.100.0", late)]


def test_what_does_not_run_or_is_another_or_too_old_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")  # a shim of pyenv
    put(tmp_path, "python3.12", "echo 'ModuleNotFoundError: sqlite3' >&2; exit 1")
    put(tmp_path, "python3.11", "echo 3.11.13 pypy")
    put(tmp_path, "python3.10", "echo 3.10.1 cpython")
    put(tmp_path, "python3.14-config", "echo 3.14.0 cpython")
    put(tmp_path, "python3.15", "echo 3.9.0 cpython")
    (tmp_path / "python3.16").write_text("no program", "ascii")
    assert installed(str(tmp_path), tmp_path) == []


def test_the_one_that_runs_this_is_found() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    folder = str(Path(sys.executable).resolve().parent)
    assert version in [each.version for each in installed(folder, Path("/nowhere"))]

"""The Pythons that a machine has: what runs, not what is merely named on the path (pyenv names all that it knows)."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OLDEST = (3, 11)
_NAMED = re.compile(r"python3\.(\d+)")
_TELL = "import sys, sqlite3, ssl, venv; print('.'.join(map(str, sys.version_info[:3])), sys.implementation.name)"
_ANSWERS_WITHIN_S = 60


class Interpreter(NamedTuple):
    """A Python that runs: its version, such as `3.12.1`, and its program."""

    version: str
    program: Path


def installed(path: str | None = None, pyenv: Path | None = None) -> list[Interpreter]:
    """Every CPython that is new enough, once for each version, oldest first.

    Looked for on the path (`PATH`) and among the versions of pyenv (`PYENV_ROOT`, or `~/.pyenv`).
    """
    found: dict[str, Path] = {}
    for program in _candidates(path, pyenv):
        version = _version_of(program)
        if version is not None and _numbers(version)[:2] >= OLDEST:
            found.setdefault(version, program)
    return [Interpreter(version, found[version]) for version in sorted(found, key=_numbers)]


def _candidates(path: str | None, pyenv: Path | None) -> Iterator[Path]:
    folders = [
        Path(folder) for folder in (os.environ.get("PATH", "") if path is None else path).split(os.pathsep) if folder
    ]
    root = pyenv or Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for folder in [*folders, *sorted(root.glob("versions/*/bin"))]:
        for program in sorted(folder.glob("python3.*")):
            named = _NAMED.fullmatch(program.name)
            if named and (3, int(named[1])) >= OLDEST:
                yield program


def _version_of(program: Path) -> str | None:
    """The version of a program that runs and is CPython with what lastseen needs; else `None`."""
    try:
        done = subprocess.run(
            [program, "-c", _TELL], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version, _, kind = done.stdout.strip().partition(" ")
    return version if done.returncode == 0 and kind == "cpython" else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))

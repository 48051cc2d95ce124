"""The servers that benchmarks run beside the engine: from the machine, or from the system's packages."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra import packages

SERVERS = {"redis-server": "redis-server", "postgresql": "initdb"}
"""Debian's package, and the program by which it is known."""

_NOT_STARTED = "RUNLEVEL=1"
"""Packages start no service in this run level: a benchmark starts its own, and no other may share the machine."""


def find(package: str, beside: Path = Path("/usr/lib/postgresql")) -> str | None:
    """Where the package's program is: on the path, or in the folder of its version, where Debian keeps PostgreSQL's."""
    program = SERVERS[package]
    return shutil.which(program) or next((str(each) for each in sorted(beside.glob(f"*/bin/{program}"))), None)


def install(missing: list[str]) -> bool:
    """Install packages, where that may be done; whether it was possible and went well."""
    return packages.install(missing, _NOT_STARTED, why="the benchmarks")

"""The servers that benchmarks run beside the engine: from the machine, or from the system's packages.

`python -m benchmarks.server_programs` says where each is. It never fails: a benchmark says of each missing server that
it is missing.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from infra.kafka import packages

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


def main() -> int:
    """Say where each server is, or what to do where it is not."""
    missing = [package for package in SERVERS if find(package) is None]
    if missing:
        install(missing)
    for package in SERVERS:
        found = find(package)
        if found is None:
            sys.stderr.write(
                f"lastseen: {package} is missing; the benchmarks leave it out, and say so."
                f" On Debian: sudo apt-get install {package}\n"
            )
        else:
            sys.stdout.write(f"{package}: {found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The servers that benchmarks run beside the engine: from the machine, or from the system's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SERVERS = {"redis-server": "redis-server", "postgresql": "initdb"}
"""Debian's package, and the program by which it is known."""

_APT_OPTIONS = ("-qq", "-o", "DPkg::Lock::Timeout=300")
_NOT_STARTED = "RUNLEVEL=1"
"""Packages start no service in this run level: a benchmark starts its own, and no other may share the machine."""


def find(package: str, beside: Path = Path("/usr/lib/postgresql")) -> str | None:
    """Where the package's program is: on the path, or in the folder of its version, where Debian keeps PostgreSQL's."""
    program = SERVERS[package]
    return shutil.which(program) or next((str(each) for each in sorted(beside.glob(f"*/bin/{program}"))), None)


def install(packages: list[str]) -> bool:
    """Install packages by apt-get, as root or by passwordless sudo; whether that was possible and went well."""
    apt, sudo = shutil.which("apt-get"), [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not apt or (sudo and not (shutil.which("sudo") and _succeeds([*sudo, "true"]))):
        return False
    sys.stderr.write(f"lastseen: installing {' and '.join(packages)} with apt-get, for the benchmarks\n")
    apt_get = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", _NOT_STARTED, apt, *_APT_OPTIONS]
    _succeeds([*apt_get, "update"])  # What is known already may do, so go on.
    return _succeeds([*apt_get, "install", "-y", "--no-install-recommends", *packages])


def _succeeds(command: list[str]) -> bool:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"lastseen: {' '.join(command[:7])} … failed: {done.stderr.strip()[-500:]}\n")
    return done.returncode == 0

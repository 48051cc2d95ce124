"""The system's packages, installed by apt-get where that needs no password: as root, or by passwordless sudo."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_OPTIONS = ("-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300")


def apt_get(*environment: str) -> list[str] | None:
    """The command, with these variables (`NAME=value`); `None` where it is not here or may not be used."""
    apt, sudo = shutil.which("apt-get"), [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not apt or (sudo and not (shutil.which("sudo") and succeeds([*sudo, "true"]))):
        return None
    return [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", *environment, apt, *_OPTIONS]


def install(packages: Sequence[str], *environment: str, why: str) -> bool:
    """Install packages, and say so and why; whether that was possible and went well."""
    command = apt_get(*environment)
    if command is None:
        return False
    sys.stderr.write(f"lastseen: installing {' and '.join(packages)} with apt-get, for {why}\n")
    wanted = [*command, "install", "-y", "--no-install-recommends", *packages]
    # The lists may be older than the packages that they name, or not there at all; then, and only then, new ones.
    return succeeds(wanted) or (succeeds([*command, "update"]) and succeeds(wanted))


def succeeds(command: Sequence[str]) -> bool:
    """Run a command; when it fails, tell what it complained of."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as failure:
        sys.stderr.write(f"lastseen: {command[0]}: {failure.strerror}\n")
        return False
    if done.returncode:
        sys.stderr.write(f"lastseen: {' '.join(command)} failed:\n{done.stderr.strip()[-2_000:]}\n")
    return done.returncode == 0

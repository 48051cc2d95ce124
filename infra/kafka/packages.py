"""The system's packages, installed by apt-get: as root, or by sudo where the user has said that it may be used.

`LASTSEEN_ALLOW_SUDO=1` says so beforehand; without it, a terminal is asked, and where there is none, sudo is not used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

ALLOW_SUDO = "LASTSEEN_ALLOW_SUDO"
_OPTIONS = ("-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300")


def apt_get(packages: Sequence[str], *environment: str, why: str) -> list[str] | None:
    """The command that installs these packages, with variables (`NAME=value`) set.

    `None` where there is no apt-get, or where it needs sudo and that is not here or not allowed.
    """
    apt = shutil.which("apt-get")
    if apt is None:
        return None
    if os.geteuid() == 0:
        sudo = []
    elif shutil.which("sudo") and _may_use_sudo(f"install {' and '.join(packages)} with apt-get, for {why}"):
        sudo = ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]
    else:
        return None
    return [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", *environment, apt, *_OPTIONS]


def _may_use_sudo(to_do: str) -> bool:
    """Whether the user allows it: said in the environment, or answered at a terminal."""
    if os.environ.get(ALLOW_SUDO) == "1":
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        sys.stderr.write(f"lastseen: sudo could {to_do}; {ALLOW_SUDO}=1 allows it\n")
        return False
    sys.stderr.write(f"lastseen: may sudo {to_do}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def install(packages: Sequence[str], *environment: str, why: str) -> bool:
    """Install packages, and say so and why; whether that was possible, allowed, and went well."""
    command = apt_get(packages, *environment, why=why)
    if command is None:
        return False
    sys.stderr.write(f"lastseen: installing {' and '.join(packages)} with apt-get, for {why}\n")
    wanted = [*command, "install", "-y", "--no-install-recommends", *packages]
    # The lists may be older than the packages that they name, or not there at all; then, and only then, new ones.
    return succeeds(wanted) or (succeeds([*command, "update"]) and succeeds(wanted))


def succeeds(command: Sequence[str]) -> bool:
    """Run a command; when it fails, tell what it complained of."""
    try:
        # sudo asks for a password at the terminal itself, not on the standard input.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as failure:
        sys.stderr.write(f"lastseen: {command[0]}: {failure.strerror}\n")
        return False
    if done.returncode:
        sys.stderr.write(f"lastseen: {' '.join(command)} failed:\n{done.stderr.strip()[-2_000:]}\n")
    return done.returncode == 0

"""libfaketime, which steps the clock of one process: from the system, or from its packages where it may be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_NAME = "libfaketimeMT.so.1"
_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib")
_APT_OPTIONS = ("-qq", "-o", "DPkg::Lock::Timeout=300")


class NoFaketime(Exception):
    """libfaketime is not here, and could not be installed; says what to do."""


def choose() -> Path:
    """The library to preload; installed by apt-get where that may be done without asking. Raises `NoFaketime`."""
    found = find()
    if found is None:
        install()
        found = find()
    if found is None:
        raise NoFaketime(
            "tests of clocks that are stepped need libfaketime, and it is not here.\n"
            "  On Debian and Ubuntu: sudo apt-get install libfaketime; elsewhere, install it as the system's packages"
            " have it."
        )
    return found


def find() -> Path | None:
    """The library, if it is here."""
    for folder in map(Path, _FOLDERS):
        for place in (folder, *(each for each in folder.glob("*-linux-*") if each.is_dir())):
            for found in (place / "faketime" / _NAME, place / _NAME):
                if found.is_file():
                    return found
    return None


def install() -> None:
    """Install libfaketime, by root or passwordless sudo."""
    apt, sudo = shutil.which("apt-get"), [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not apt or (sudo and not (shutil.which("sudo") and _succeeds([*sudo, "true"]))):
        return
    sys.stderr.write("lastseen: installing libfaketime with apt-get, for the tests of clocks that are stepped\n")
    apt_get = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", apt, *_APT_OPTIONS]
    # The lists may be older than the packages that they name, or not there at all; then, and only then, new ones.
    wanted = [*apt_get, "install", "-y", "--no-install-recommends", "libfaketime"]
    if not _succeeds(wanted):
        _succeeds([*apt_get, "update"])
        _succeeds(wanted)


def _succeeds(command: list[str]) -> bool:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"lastseen: {' '.join(command[:6])} … failed: {done.stderr.strip()[-500:]}\n")
    return done.returncode == 0

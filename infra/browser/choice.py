"""The browser that tests run: Chromium or Chrome, from the path, or from the system's packages where it may be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_APT_OPTIONS = ("-qq", "-o", "DPkg::Lock::Timeout=300")


class NoBrowser(Exception):
    """No browser is here, and none could be installed; says what to do."""


def choose() -> str:
    """The program of a browser; installed by apt-get where that may be done without asking. Raises `NoBrowser`."""
    found = find()
    if found is None:
        install()
        found = find()
    if found is None:
        raise NoBrowser(
            "tests of what a browser does need Chromium, and none is here.\n"
            "  On Debian: sudo apt-get install chromium; elsewhere, put Chromium or Chrome on the path."
        )
    return found


def find() -> str | None:
    """The first browser on the path."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def install() -> None:
    """Install Chromium, by root or passwordless sudo."""
    apt, sudo = shutil.which("apt-get"), [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not apt or (sudo and not (shutil.which("sudo") and _succeeds([*sudo, "true"]))):
        return
    sys.stderr.write("lastseen: installing Chromium with apt-get, for the tests of what a browser does\n")
    apt_get = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", apt, *_APT_OPTIONS]
    _succeeds([*apt_get, "update"])
    _succeeds([*apt_get, "install", "-y", "--no-install-recommends", "chromium"])


def _succeeds(command: list[str]) -> bool:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"lastseen: {' '.join(command[:6])} … failed: {done.stderr.strip()[-500:]}\n")
    return done.returncode == 0

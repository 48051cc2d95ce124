"""The browser that tests run: Chromium or Chrome, from the path, or from the system's packages where it may be.

`python -m tests.service.browser` says which it is.
"""

from __future__ import annotations

import shutil
import sys

from infra.kafka import packages

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NoBrowser(Exception):
    """No browser is here, and none could be installed; says what to do."""


def choose() -> str:
    """The program of a browser; installed by apt-get where that may be done. Raises `NoBrowser`."""
    found = find()
    if found is None:
        packages.install(["chromium"], why="the tests of what a browser does")
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


def main() -> int:
    """Say which browser it is, or what to do where there is none."""
    try:
        sys.stdout.write(f"browser: {choose()}\n")
    except NoBrowser as missing:
        sys.stderr.write(f"lastseen: {missing}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The browser that tests run: Chromium or Chrome, from the path, or from the system's packages where it may be.

`python -m tests.service.browser` says which it is.
"""

from __future__ import annotations

import shutil
import sys

from tests.programs import found_or_installed, report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def choose() -> str:
    """The program of a browser; installed by apt-get where that may be done. Raises `Missing`."""
    return found_or_installed("Chromium or Chrome", find, package="chromium", why="what a browser does")


def find() -> str | None:
    """The first browser on the path."""
    return next(filter(None, map(shutil.which, NAMES)), None)


if __name__ == "__main__":
    sys.exit(report("browser", choose))

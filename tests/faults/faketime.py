"""libfaketime, which steps the clock of one process: from the system, or from its packages where it may be."""

from __future__ import annotations

from pathlib import Path

from tests.programs import found_or_installed

_NAME = "libfaketimeMT.so.1"
_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib")


def choose() -> Path:
    """The library to preload; installed by apt-get where that may be done. Raises `Missing`."""
    return found_or_installed("libfaketime", find, package="libfaketime", why="clocks that are stepped")


def find() -> Path | None:
    """The library, if it is here."""
    for folder in map(Path, _FOLDERS):
        for place in (folder, *(each for each in folder.glob("*-linux-*") if each.is_dir())):
            for found in (place / "faketime" / _NAME, place / _NAME):
                if found.is_file():
                    return found
    return None

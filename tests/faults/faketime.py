"""libfaketime, which steps the clock of one process: from the system, or from its packages where it may be."""

from __future__ import annotations

from pathlib import Path

from infra.kafka import packages

_NAME = "libfaketimeMT.so.1"
_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib")


class NoFaketime(Exception):
    """libfaketime is not here, and could not be installed; says what to do."""


def choose() -> Path:
    """The library to preload; installed by apt-get where that may be done. Raises `NoFaketime`."""
    found = find()
    if found is None:
        packages.install(["libfaketime"], why="the tests of clocks that are stepped")
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

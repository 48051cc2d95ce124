"""curl, which runs what README and the pages show: from the path, or from the system's packages where it may be.

`python -m tests.service.curl_program` says where it is.
"""

from __future__ import annotations

import shutil
import sys

from infra.kafka import packages


class NoCurl(Exception):
    """curl is not here, and could not be installed; says what to do."""


def choose() -> str:
    """The program; installed by apt-get where that may be done. Raises `NoCurl`."""
    found = shutil.which("curl")
    if found is None:
        packages.install(["curl"], why="the tests of the commands that the documentation shows")
        found = shutil.which("curl")
    if found is None:
        raise NoCurl(
            "tests of the commands that the documentation shows need curl, and it is not here.\n"
            "  On Debian and Ubuntu: sudo apt-get install curl; elsewhere, install it as the system's packages have it."
        )
    return found


def main() -> int:
    """Say where it is, or what to do where it is not."""
    try:
        sys.stdout.write(f"curl: {choose()}\n")
    except NoCurl as missing:
        sys.stderr.write(f"lastseen: {missing}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

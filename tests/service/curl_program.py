"""curl, which runs what README and the pages show: from the path, or from the system's packages where it may be.

`python -m tests.service.curl_program` says where it is.
"""

from __future__ import annotations

import shutil
import sys

from tests.programs import found_or_installed, report


def choose() -> str:
    """The program; installed by apt-get where that may be done. Raises `Missing`."""
    return found_or_installed(
        "curl", lambda: shutil.which("curl"), package="curl", why="the commands that the documentation shows"
    )


if __name__ == "__main__":
    sys.exit(report("curl", choose))

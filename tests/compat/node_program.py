"""Node.js for the tests: the one on the path, else the one that apt-get brings, else word of what is missing."""

from __future__ import annotations

import re
import shutil
import subprocess

from infra.kafka import packages

OLDEST = 18
"""The first with `fetch`."""


def node() -> str:
    """The program. Fails the test, saying what to install, where there is none and none may be installed."""
    found = _new_enough()
    if found is None:
        packages.install(["nodejs"], why="the tests of the JavaScript example")
        found = _new_enough()
    assert found is not None, f"Node.js {OLDEST} or newer runs the JavaScript example: apt-get install nodejs"
    return found


def _new_enough() -> str | None:
    program = shutil.which("node")
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    version = re.match(r"v(\d+)\.", said)
    return program if version and int(version[1]) >= OLDEST else None

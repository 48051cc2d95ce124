"""What tests run that is no Python package: found on this machine, or installed by apt-get where that may be done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from infra.kafka import packages

Found = TypeVar("Found")


class Missing(Exception):
    """A program is not here, and could not be installed; says what to do."""


def found_or_installed(name: str, find: Callable[[], Found | None], *, package: str, why: str) -> Found:
    """What `find` finds, if need be after `package` was installed. Raises `Missing`."""
    found = find()
    if found is None:
        packages.install([package], why=f"the tests of {why}")
        found = find()
    if found is None:
        raise Missing(
            f"the tests of {why} need {name}, and it is not here.\n"
            f"  On Debian and Ubuntu: sudo apt-get install {package}; elsewhere, install it as the system's packages"
            " have it."
        )
    return found


def report(name: str, choose: Callable[[], object]) -> int:
    """Say where a program is, or what to do where it is not; an exit code."""
    try:
        sys.stdout.write(f"{name}: {choose()}\n")
    except Missing as missing:
        sys.stderr.write(f"lastseen: {missing}\n")
        return 1
    return 0

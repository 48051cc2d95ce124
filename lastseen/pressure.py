"""Memory pressure: how much of the memory that this process may use is in use, cgroup limits included (Linux)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PRESSED_ABOVE = 0.8
"""The share of the limit above which memory is let go of (DESIGN section 6)."""
_CGROUP = Path("/sys/fs/cgroup")


class MemoryPressure:
    """Compares this process's resident memory with its limit."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes if limit_bytes is not None else _system_limit_bytes()

    def share(self) -> float:
        """Resident memory as a share of the limit; 0 where either is unknown."""
        resident = _resident_bytes()
        return 0.0 if resident is None or not self.limit_bytes else resident / self.limit_bytes


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _system_limit_bytes() -> int | None:
    limits = [limit for limit in (_cgroup_limit_bytes(), _machine_bytes()) if limit is not None]
    return min(limits, default=None)


def _cgroup_limit_bytes() -> int | None:
    """The limit of this process's own cgroup (version 2), or of the nearest one above it that has one."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    place = _CGROUP / own
    limits = []
    while True:
        with suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int((place / "memory.max").read_text("ascii")))
        if place == _CGROUP or _CGROUP not in place.parents:
            return min(limits, default=None)
        place = place.parent


def _machine_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None

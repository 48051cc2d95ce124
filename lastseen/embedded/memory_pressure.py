"""Memory pressure: how much of the memory that this process may use is in use, cgroup limits included (Linux)."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

PRESSURE_THRESHOLD = 0.8
"""The share of the limit above which memory is freed (DESIGN section 6)."""
_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


class MemoryPressure:
    """Compares this process's resident memory with its limit."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes if limit_bytes is not None else _system_limit_bytes()

    def share(self) -> float:
        """Resident memory as a share of the limit; 0 where either is unknown."""
        resident = _resident_bytes()
        return 0.0 if resident is None or not self.limit_bytes else resident / self.limit_bytes


def trim_heap() -> None:
    """Return memory that the process does not use to the system (glibc; elsewhere nothing happens).

    An allocator keeps freed memory for the next allocation. Without this call, memory that was freed under pressure
    would count as resident permanently, and pressure would never end.
    """
    if _trim is not None:
        _trim(0)


def _find_trim() -> Callable[[int], int] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc
        return None
    trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return cast(Callable[[int], int], trim)


_trim = _find_trim()


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * mmap.PAGESIZE


def _system_limit_bytes() -> int | None:
    limits = [limit for limit in (_cgroup_limit_bytes(), _machine_bytes()) if limit is not None]
    return min(limits, default=None)


def _cgroup_limit_bytes() -> int | None:
    """The limit of this process's own cgroup, or of one above it if that is less; version 1 or 2."""
    try:
        lines = _OWN_CGROUPS.read_text("utf-8").splitlines()
    except OSError:
        return None
    limits: list[int] = []
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if not controllers:
            limits += _limits(_CGROUP, own, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(_CGROUP / "memory", own, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(root: Path, own: str, file: str) -> Iterator[int]:
    """The limits that are set for a cgroup and those above it. In a container its name may be that of the machine's
    tree, which is not to be seen: then what counts is the root."""
    place = root / own.strip("/")
    while True:
        with suppress(OSError, ValueError):  # no such file, or "max"
            yield int((place / file).read_text("ascii"))
        if place == root or root not in place.parents:
            return
        place = place.parent


def _machine_bytes() -> int | None:
    if not hasattr(os, "sysconf"):  # Windows
        return None
    try:
        pages: int = os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    return mmap.PAGESIZE * pages

"""What is read off from outside while a soak runs: memory, descriptors, threads, and what the files take."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.soak.flat import Allowed

MIB = 1024 * 1024
ALLOWED = {
    "memory": Allowed(0.05, 8 * MIB),
    "descriptors": Allowed(0, 0.9),
    "threads": Allowed(0, 0.9),
    "bodies": Allowed(0.1, 100_000),
    "live": Allowed(0.1, 100),
    "lag records": Allowed(0.1, 500),
    "lag ms": Allowed(0.1, 500),
    "unpublished": Allowed(0.1, 500),
    "snapshot": Allowed(0.1, 4 * MIB),
    "archives": Allowed(0.1, 12 * MIB),
    # Each of them grows to some 4 MiB before it is begun anew.
    "write-ahead files": Allowed(0.1, 20 * MIB),
}
"""What each gauge may grow by from the end of the warm-up to the end of the run."""


class Process(NamedTuple):
    """One process, as /proc shows it."""

    resident_bytes: int
    descriptors: int
    threads: int


def look_at(pid: int) -> Process:
    """A process now. Raises `FileNotFoundError` where it has ended."""
    place = Path("/proc") / str(pid)
    resident = int((place / "statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Process(resident, len(list((place / "fd").iterdir())), len(list((place / "task").iterdir())))


class Files(NamedTuple):
    """What the files of a soak take, in bytes."""

    log: int
    history: int
    snapshot: int
    archives: int
    write_ahead: int


def measure(folder: Path) -> Files:
    """The files in a folder now."""
    sizes = dict.fromkeys(Files._fields, 0)
    for found in folder.iterdir():
        name = found.name
        if name.endswith("-wal"):
            kind = "write_ahead"
        elif ".archive-" in name:
            kind = "archives"
        elif name.endswith(".history"):
            kind = "history"
        elif name.endswith(".snapshot"):
            kind = "snapshot"
        elif name.endswith(".db"):
            kind = "log"
        else:
            continue
        with suppress(FileNotFoundError):  # an archive that has just been dropped
            sizes[kind] += found.stat().st_size
    return Files(**sizes)

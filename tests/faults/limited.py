"""Processes under a memory limit: that of a cgroup of their own where one can be made, else that of the process.

A cgroup's limit is what containers have: a process that needs more is killed, and files that were read count too,
though they can be dropped. Without rights to make one, RLIMIT_DATA stands in: it refuses memory instead of killing, and
the engine has to be given the limit."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/sys/fs/cgroup")
_STACKS_BYTES = 64 * 1024 * 1024
"""What RLIMIT_DATA counts besides: stacks of threads that are not used."""


class Cgroup(NamedTuple):
    """A cgroup that has a memory limit."""

    place: Path
    version: int

    def kills(self) -> int:
        """How many processes were killed for lack of memory in it."""
        file = "memory.events" if self.version == 2 else "memory.oom_control"
        words = (self.place / file).read_text("ascii").split()
        return int(words[words.index("oom_kill") + 1])


def _candidates() -> Iterator[tuple[Path, int]]:
    """Where a cgroup may be made: under our own, else at the root."""
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        _, controllers, own = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield from ((_ROOT / "memory" / own.strip("/"), 1), (_ROOT / "memory", 1))
        elif not controllers:
            yield from ((_ROOT / own.strip("/"), 2), (_ROOT, 2))


def _make(limit_bytes: int) -> Cgroup | None:
    for parent, version in _candidates():
        place = parent / f"lastseen-test-{os.getpid()}"
        try:
            place.mkdir()
            file = "memory.max" if version == 2 else "memory.limit_in_bytes"
            (place / file).write_text(str(limit_bytes), "ascii")
            with suppress(OSError):  # where there is swap, it must not help out
                swap = "memory.swap.max" if version == 2 else "memory.memsw.limit_in_bytes"
                (place / swap).write_text("0" if version == 2 else str(limit_bytes), "ascii")
        except OSError:
            with suppress(OSError):
                place.rmdir()
            continue
        return Cgroup(place, version)
    return None


@contextmanager
def a_cgroup(limit_bytes: int) -> Iterator[Cgroup | None]:
    """A cgroup with a limit, gone after the block; `None` where none can be made."""
    cgroup = _make(limit_bytes)
    try:
        yield cgroup
    finally:
        if cgroup is not None:
            give_up = time.monotonic() + 10
            while cgroup.place.exists() and time.monotonic() < give_up:
                with suppress(OSError):  # a process that was just killed is in it for a moment yet
                    cgroup.place.rmdir()


@contextmanager
def limited(
    script: str, arguments: list[str], limit_bytes: int, cgroup: Cgroup | None, *more: str
) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script under a limit, killed at the end of the block.

    Its arguments are those given, the limit that it has to be given (0 for none: it can be read), and more.
    """
    if cgroup is not None:
        bound = f"echo $$ > {shlex.quote(str(cgroup.place / 'cgroup.procs'))}"
    else:
        bound = f"ulimit -s 1024; ulimit -d {(limit_bytes + _STACKS_BYTES) // 1024}"
    given_limit = "0" if cgroup is not None else str(limit_bytes)
    command = shlex.join([sys.executable, "-c", script, *arguments, given_limit, *more])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["/bin/sh", "-ec", f"{bound}; exec {command}"], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()

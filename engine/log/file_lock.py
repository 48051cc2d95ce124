"""Advisory locks on files of our own. The system frees them when their holder dies, however it dies.

Each open file has a lock of its own, so two logs or engines in one process are kept apart like two processes. Where a
file cannot be opened, or its file system has no locks, there is none: callers have a way to do without.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _give(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    _HELD = (PermissionError,)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _give(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    _HELD = (BlockingIOError,)


class FileLock:
    """The lock of one file. For one thread at a time."""

    def __init__(self, path: str | Path, mode: int) -> None:
        """Open the file at `path`, or make it with `mode`, whatever the umask is. Raises `OSError`."""
        self.path = str(path)
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CLOSED_BY_EXEC, mode)
        except FileExistsError:
            self._descriptor = os.open(self.path, os.O_RDWR | _CLOSED_BY_EXEC)
        else:
            with suppress(OSError):
                Path(self.path).chmod(mode)

    def try_take(self) -> bool:
        """Take the lock unless another holds it; whether it is ours now. Raises `OSError` where there are no locks."""
        try:
            _take(self._descriptor)
        except _HELD:
            return False
        return True

    def give(self) -> None:
        """Give the lock back. Raises `OSError`."""
        _give(self._descriptor)

    def close(self) -> None:
        """Close the file, and give the lock back with it. May be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


_CLOSED_BY_EXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0) | getattr(os, "O_NOFOLLOW", 0)

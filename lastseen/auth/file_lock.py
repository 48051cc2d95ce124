"""A lock between processes of one machine, by the operating system: it ends with its holder, however that ends."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt

    def lock(handle: int) -> None:
        """Wait until no other process has locked the file that is open as `handle`, and lock it until it is closed.

        Raises `OSError` where another one has kept it for ten seconds.
        """
        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def lock(handle: int) -> None:
        """Wait until no other process has locked the file that is open as `handle`, and lock it until it is closed."""
        fcntl.flock(handle, fcntl.LOCK_EX)

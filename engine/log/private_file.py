"""Files that only the account of this process can read: sessions are personal data.

A file that is there keeps the mode that it has, so an operator can share it with a group (`chmod`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MODE = 0o600
"""Read and write, for the owner of the file; on Windows it has no effect, and folders inherit their access lists."""


def make_private(path: str | Path) -> None:
    """Make an empty file of mode 0600 where there is none, for a library that then opens it by its name.

    Side files that SQLite makes (`-wal`, `-shm`, `-journal`) have the mode of their database. Where the file cannot be
    made, nothing happens: what opens it says why.
    """
    if str(path) == ":memory:":
        return
    with suppress(OSError, ValueError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE))

"""What the file system under a log is, and whether it has locks.

SQLite says `database is locked` for most failures of a lock: of one that another process holds, and also where the file
system has none (ENOLCK, EACCES), as network file systems may answer. Here a lock is tried on an unnamed file beside it,
since closing any descriptor of the log's own file would give up the locks that this process has on it.
"""

from __future__ import annotations

import errno
import re
import sqlite3
import sys
from pathlib import Path
from tempfile import TemporaryFile

if sys.platform == "win32":

    def _try(descriptor: int) -> None:
        """The system's own locks are part of every open there."""

else:
    import fcntl

    def _try(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset((
    "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs",
))  # fmt: skip
_ESCAPED = re.compile(r"\\([0-7]{3})")
LOCAL_STEP = (
    "keep the log on a local disk, used from one machine; for several machines run the service, or use a log on Kafka"
)
"""What to do about a network file system."""


def kind_of(path: Path) -> str | None:
    """The kind of the file system that a path is on, such as `ext4` or `nfs4`; `None` where the system does not say."""
    try:
        whole = path.resolve()
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        place = Path(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4]))
        # A later mount at the same place covers the earlier one.
        if whole.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), after.split(" ")[0]
    return kind


def lock_failure(folder: Path) -> OSError | None:
    """What a file system answers to a lock in a folder; `None` if it gives one, or no file can be made there."""
    try:
        file = TemporaryFile(prefix="lastseen-", dir=folder)  # noqa: SIM115
    except OSError:
        return None
    with file:
        try:
            _try(file.fileno())
        except OSError as error:
            return error
    return None


def answer_text(path: Path, failure: OSError) -> str:
    """A failure of a lock in words: the kind of the file system, the name and the meaning of what it answered."""
    kind = kind_of(path)
    name = errno.errorcode.get(failure.errno or 0, str(failure.errno))
    return f"its file system{f' ({kind})' if kind else ''} answers a lock with {name} ({failure.strerror})"


def locked_text(path: Path, error: Exception) -> str:
    """Why SQLite says that a file is locked, and the next step."""
    failure = lock_failure(path.parent)
    if failure is not None:
        return f"cannot be locked: {answer_text(path, failure)}: {LOCAL_STEP} ({error})"
    return f"is locked by another process: try again, or find out which process holds the lock ({error})"


def input_output_text(path: Path, error: sqlite3.Error) -> str:
    """What is known of an input or output error of SQLite, and the next step."""
    name = getattr(error, "sqlite_errorname", "SQLITE_IOERR")
    failure, kind = lock_failure(path.parent), kind_of(path)
    if failure is not None:
        return f"cannot be used: {error} ({name}): {answer_text(path, failure)}: {LOCAL_STEP}"
    if kind in NETWORK:
        return f"cannot be used: {error} ({name}) on {kind}, a network file system: {LOCAL_STEP}"
    return f"cannot be used: {error} ({name}); check that the disk works and that the folder exists"

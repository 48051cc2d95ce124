"""Reading an SQLite file that stays as it is: on read-only media, as an account that may only read, beside a writer.

A plain read-only connection needs the side files of write-ahead mode (`-wal`, `-shm`), and makes them where they are
missing. While there are none, no process has the file open, and SQLite may take it for immutable. That the file was not
opened meanwhile is checked after each read; if it was, what was read may be torn, and is read again. A file that was
copied with its `-wal`, but without its `-shm`, to where none can be made is read from a copy in a temporary folder, as
is one with the journal of a transaction that a loss of power cut off.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self, TypeVar

T = TypeVar("T")
LOCK_TIMEOUT_S = 5.0
"""How long a read waits for another process's lock."""
_MAX_REOPENED = 10
_CANNOT_MAKE_SIDE_FILES = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_Stamp = tuple[int, int, int]


class ReadOnlyFile:
    """An SQLite file, opened to be read only. One thread at a time may use it."""

    def __init__(self, path: str | Path, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """Open `path`. Raises `sqlite3.Error` and `OSError`."""
        self._path = Path(path).absolute()
        self._timeout_s = timeout_s
        self._folder: TemporaryDirectory[str] | None = None
        self._stamp: _Stamp | None = None
        """Of a file that is taken for immutable, as it was before it was opened."""
        try:
            self._connection = self._open()
        except BaseException:
            self._remove_copy()
            raise

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` reads, which is called again where the file changed meanwhile. Raises `sqlite3.Error`."""
        for _ in range(_MAX_REOPENED):
            try:
                result = work(self._connection)
            except sqlite3.Error:
                if self._is_unchanged():
                    raise
            else:
                if self._is_unchanged():
                    return result
            self._connection.close()
            self._connection = self._open()
        raise sqlite3.OperationalError(f"{self._path} is opened and closed by other processes all the time")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._remove_copy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        self._stamp = _stamp(self._path)
        if self._stamp is not None:
            return self._connect(self._path, "?mode=ro&immutable=1")
        connection = self._connect(self._path, "?mode=ro")
        try:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            connection.close()
            if code not in _CANNOT_MAKE_SIDE_FILES or _side(self._path, "-shm").exists():
                raise
            return self._connect(self._copied(), "")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, path: Path, how: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{path.as_uri()}{how}", uri=True, isolation_level=None, check_same_thread=False, timeout=self._timeout_s
        )

    def _copied(self) -> Path:
        """A copy with what belongs to it: the write-ahead file, or a journal of what is to be taken back.

        No process has the file open: each would have made a `-shm`.
        """
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="lastseen-")
        copy = Path(self._folder.name) / "copy.db"
        for side in ("", "-wal", "-journal"):
            _side(copy, side).unlink(missing_ok=True)
            if not side or _side(self._path, side).exists():
                shutil.copyfile(_side(self._path, side), _side(copy, side))
        return copy

    def _remove_copy(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _is_unchanged(self) -> bool:
        return self._stamp is None or self._stamp == _stamp(self._path)


def copy_database(source: Path, target: Path, timeout_s: float = LOCK_TIMEOUT_S) -> None:
    """Copy an SQLite file as it stands, its write-ahead log included. Raises `sqlite3.Error` and `OSError`.

    Python repeats a copy that finds the file locked without end; here it ends after `timeout_s`.
    """

    def copy(old: sqlite3.Connection) -> None:
        # The copy stands on one moment of the source, and waits for it once: the statement gives up, a copy does not.
        old.execute("BEGIN")
        try:
            old.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
            with closing(sqlite3.connect(target)) as new:
                # The copy need not survive a power loss.
                new.execute("PRAGMA synchronous = OFF")
                old.backup(new)
        finally:
            if old.in_transaction:
                old.execute("ROLLBACK")

    with ReadOnlyFile(source, timeout_s) as file:
        file.read(copy)


def is_locked(error: BaseException | None) -> bool:
    """Whether SQLite's error is another process's lock."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _side(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")


def _stamp(path: Path) -> _Stamp | None:
    """What tells whether a file that no process has open was changed; `None` while one may have it open."""
    wal, shm, journal = (_side(path, side) for side in ("-wal", "-shm", "-journal"))
    if journal.exists() or (wal.exists() and (shm.exists() or wal.stat().st_size)):
        return None
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns

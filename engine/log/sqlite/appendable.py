"""Whether an SQLite log takes appends at the moment, found out without leaving anything in it."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable

from lastseen.engine.log.sqlite.file import log_error
from lastseen.engine.log.sqlite.recorder import LogDatastore

LITTLE_ROOM_BYTES = 256 * 1024
"""With less room on its disk, whether the log can grow is tried."""


class Appendable:
    """Knows whether appends fail. Only where the last one did, or the disk has next to no room, is something written to
    find out: the file's header, as it is."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.is_failing = False
        """Whether the last commit failed."""

    def check(self, datastore: LogDatastore, forget: Callable[[], None]) -> None:
        """Raise the error of an append, if one would fail. `forget` is called where the connection is rolled back."""
        if not self.is_failing and has_room(self._path):
            return
        with datastore.writing:
            try:
                connection = datastore.writer().raw
                if connection.in_transaction:  # an interrupted caller left it open
                    forget()
                    roll_back(connection)
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {version}")
            except sqlite3.Error as error:
                forget()
                raise log_error(self._path, error) from error
            self.is_failing = False


def has_room(path: str) -> bool:
    """Whether the disk of a file has room for more than a few records, as far as the system says."""
    if sys.platform == "win32":
        return True
    try:
        disk = os.statvfs(path)
    except OSError:
        return True
    return disk.f_bavail * disk.f_frsize >= LITTLE_ROOM_BYTES and not disk.f_flag & os.ST_RDONLY


def roll_back(connection: sqlite3.Connection) -> None:
    """Take a transaction back, unless SQLite has done so itself, as it does when the disk is full."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")

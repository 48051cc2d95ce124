"""SQLite's write-ahead mode for a file that several processes may be making at this very moment."""

from __future__ import annotations

import sqlite3
import time

PATIENCE_S = 5.0
"""As long as connections wait for a lock."""
_AGAIN_AFTER_S = 0.005


def write_ahead(connection: sqlite3.Connection) -> None:
    """Turn it on; a flush then waits for no disk (`synchronous=NORMAL`). Raises `sqlite3.Error`."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.Error as error:
            # A transaction waits for a lock by itself; the change of mode does not.
            is_locked = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_locked or time.monotonic() > give_up:
                raise
            time.sleep(_AGAIN_AFTER_S)
    connection.execute("PRAGMA synchronous = NORMAL")

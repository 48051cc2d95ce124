"""SQLite's write-ahead mode for a file that several processes may be making at this very moment."""

from __future__ import annotations

import sqlite3
import time

_AGAIN_AFTER_S = 0.005


def write_ahead(connection: sqlite3.Connection, patience_s: float = 5.0) -> None:
    """Turn it on, or raise `sqlite3.Error`. A transaction waits for a lock by itself; the change of mode does not."""
    give_up = time.monotonic() + patience_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.Error as error:
            is_locked = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_locked or time.monotonic() > give_up:
                raise
            time.sleep(_AGAIN_AFTER_S)

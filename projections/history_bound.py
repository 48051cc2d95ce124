"""The bound of a history that is kept in memory: beyond it the oldest records leave, and it is known up to where.

A history on the disk has none. Of a partition whose oldest records have left, all from its *floor* on are there. A
session that ended before the floor leaves too; one that lives stays known, however long ago it began.
"""

from __future__ import annotations

import logging
import sqlite3

from lastseen.engine.errors import LogMismatch, shown
from lastseen.engine.log.sqlite_files import transaction

DEFAULT_MAX_BYTES = 128 * 1024 * 1024
_STEP = 4_096
"""Records that leave at a time, at least."""
_SPARE = 8
"""Room is made for this part of the bound, so that not every flush has to."""
_INDEXES = """
CREATE INDEX IF NOT EXISTS entries_by_time ON entries (at_ms);
CREATE INDEX IF NOT EXISTS lives_by_end ON lives (partition, ended_offset);
"""
_logger = logging.getLogger("lastseen")


class HistoryBound:
    """Keeps the tables of a history within a number of bytes. For one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes
        self.floors: dict[int, int] = {}
        """For each partition of which records have left, the offset from which on all are there."""
        connection.executescript(_INDEXES)

    def used_bytes(self) -> int:
        """What the tables take."""
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def keep(self) -> None:
        """Let the oldest records leave if there are too many bytes. Raises `sqlite3.Error`."""
        if self.used_bytes() <= self._max_bytes:
            return
        if not self.floors:
            _logger.warning(
                "the history is in memory and has reached %s bytes: from now on its oldest records leave it. Name a"
                " file with the setting `snapshot` to keep them, or raise `max_history_bytes`",
                self._max_bytes,
            )
        while self.used_bytes() > self._max_bytes - self._max_bytes // _SPARE:
            if not self._drop_step():
                return

    def _drop_step(self) -> bool:
        connection = self._connection
        with transaction(connection):
            newest = connection.execute(
                "SELECT max(at_ms) FROM (SELECT at_ms FROM entries ORDER BY at_ms LIMIT ?)", (_STEP,)
            ).fetchone()[0]
            if newest is None:
                return False
            tops = 'SELECT partition, max("offset") FROM entries WHERE at_ms <= ? GROUP BY partition'
            floors = {number: offset + 1 for number, offset in connection.execute(tops, (newest,))}
            connection.execute("DELETE FROM entries WHERE at_ms <= ?", (newest,))
            for number, floor in floors.items():
                self.floors[number] = max(floor, self.floors.get(number, 0))
                connection.execute(
                    "DELETE FROM lives WHERE partition = ? AND ended_offset < ?", (number, self.floors[number])
                )
        return True


def left_memory(key: str, number: int, floor: int) -> LogMismatch:
    """The error of a question about a time before the floor."""
    return LogMismatch(
        f"the history of {shown(key)} goes back to offset {floor} of partition {number}: it is in memory, and what came"
        " before has left it. Name a file with the setting `snapshot`, and start again: it is folded from the log"
    )

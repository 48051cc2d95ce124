"""A log's SQLite file, opened only to be read: it needs no right to write, neither to the file nor to its folder."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NoReturn, TypeVar

from lastseen.engine.errors import EngineClosed, LogMismatch, LogUnavailable
from lastseen.engine.log.port import Message, Position, Record
from lastseen.engine.log.read_only import ReadOnlyFile
from lastseen.engine.log.sqlite.file import FAILURES, TABLE, check_path, log_error, read_header
from lastseen.engine.log.sqlite.reading import read_records

T = TypeVar("T")
POLL_S = 0.01
"""How often a waiter looks for other processes' commits."""


class SqliteLogReader:
    """A log (`port.Log`) that refuses appends."""

    def __init__(self, path: str) -> None:
        """Open the log at `path`. Raises `InvalidSetting`, `LogUnavailable`, `LogCorrupt`, `LogTooNew`."""
        self.path = str(Path(path).absolute())
        check_path(Path(self.path))
        self._lock = threading.Lock()
        self._is_closed = False
        try:
            self._file = ReadOnlyFile(self.path)
        except (*FAILURES, OSError) as error:
            raise log_error(self.path, error) from error
        try:
            self.identity, self.partitions = self.read_file(lambda connection: read_header(self.path, connection))
        except BaseException:
            self._file.close()
            raise

    def read_file(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` reads; it is called again where the file changed meanwhile. Raises `LogError`."""
        with self._lock:
            if self._is_closed:
                raise EngineClosed(f"log {self.path} is closed: open it again")
            try:
                return self._file.read(work)
            except (*FAILURES, OSError) as error:
                raise log_error(self.path, error) from error

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """Refused (`port.Log`)."""
        if messages:
            self._refuse()
        return []

    def append_soon(self, messages: Sequence[Message]) -> Future[list[Position]]:
        """Refused (`port.Log`)."""
        future: Future[list[Position]] = Future()
        future.set_result(self.append(messages))
        return future

    def _refuse(self) -> NoReturn:
        raise LogUnavailable(f"log {self.path} was opened only to be read: open it for writing to append to it")

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on (`port.Log`)."""

        def page(connection: sqlite3.Connection) -> list[Record]:
            records = read_records(connection, partition, from_offset, max_records)
            if not records or records[0].offset != from_offset:
                end = _end_offset(connection, partition)
                if records or not 0 <= from_offset <= end:
                    raise LogMismatch(
                        f"log {self.path}, partition {partition}: it ends at offset {end}, and has no record at"
                        f" {from_offset}: records are missing from the file. Restore it from a copy"
                    )
            return records

        return self.read_file(page)

    def wait(self, position: Position, timeout_s: float) -> bool:
        """Wait until there is a record at `position` (`port.Log`)."""
        give_up = time.monotonic() + timeout_s
        while self.end_offsets()[position.partition] <= position.offset:
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(left_s, POLL_S))
        return True

    def end_offsets(self) -> list[int]:
        """The offset that the next record of each partition will have (`port.Log`)."""
        return self.read_file(lambda connection: [_end_offset(connection, number) for number in range(self.partitions)])

    def close(self) -> None:
        """Close the file (`port.Log`)."""
        with self._lock:
            self._is_closed = True
            self._file.close()


def _end_offset(connection: sqlite3.Connection, partition: int) -> int:
    (last,) = connection.execute(
        f"SELECT MAX(originator_version) FROM {TABLE} WHERE originator_id = ?", (str(partition),)
    ).fetchone()
    return 0 if last is None else int(last) + 1

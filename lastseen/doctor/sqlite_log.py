"""A log in an SQLite file, opened so that not even a side file is left behind."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lastseen.doctor.findings import Finding, error, ok, warning
from lastseen.engine.errors import LogCorrupt, LogUnavailable, shown
from lastseen.engine.log.port import Record
from lastseen.engine.log.sqlite.file import FAILURES, META, TABLE, check_is_log, log_error
from lastseen.engine.log.sqlite.reading import read_records

LARGE_WAL_BYTES = 256 * 1024 * 1024


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection to an SQLite file that changes nothing. Raises `sqlite3.Error`.

    A plain read-only connection creates side files if the database is in WAL mode. Without side files no other process
    has it open, and nothing can change.
    """
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=5)


class SqliteLogFile:
    """A log's file (`findings.ReadOnlyLog`)."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path, self._connection = path, connection
        meta: dict[str, Any] = dict(self._rows(f"SELECT name, value FROM {META}"))
        self.identity, partitions = str(meta.get("identity")), meta.get("partitions")
        if not isinstance(partitions, int):
            raise LogCorrupt(f"log {path} says {shown(meta)} in its header, which is not valid: restore it from a copy")
        self.starts = [0] * partitions
        query = f"SELECT MAX(originator_version) + 1 FROM {TABLE} WHERE originator_id = ?"
        self.ends: list[int] = [self._rows(query, str(number))[0][0] or 0 for number in range(partitions)]

    def read(self, partition: int, from_offset: int, limit: int) -> list[Record]:
        """Records from an offset on (`findings.ReadOnlyLog`)."""
        try:
            return read_records(self._connection, partition, from_offset, limit)
        except FAILURES as failure:
            raise log_error(str(self._path), failure) from failure

    def _rows(self, query: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except FAILURES as failure:
            raise log_error(str(self._path), failure) from failure


@contextmanager
def opened_file(path: Path) -> Iterator[tuple[SqliteLogFile, list[Finding]]]:
    """The log at `path`, and what is to be said of its file. Raises `LogError`."""
    if not path.is_file() or not path.stat().st_size:
        raise LogUnavailable(f"there is no log at {path}: name it with --log or LASTSEEN_LOG")
    check_is_log(path)
    try:
        connection = connect_read_only(path)
    except FAILURES as failure:
        raise log_error(str(path), failure) from failure
    with closing(connection):
        log = SqliteLogFile(path, connection)
        says = f"{path} holds {sum(log.ends):,} records in {len(log.ends)} partitions"
        yield log, [ok("log", says), _rights(path), _wal(path)]


def _rights(path: Path) -> Finding:
    for place, right in ((path, os.R_OK | os.W_OK), (path.parent, os.W_OK | os.X_OK)):
        if not os.access(place, right):
            return error("rights", f"this user cannot write to {place}", "correct its owner or its permissions")
    return ok("rights", "this user can write to the log and its folder")


def _wal(path: Path) -> Finding:
    wal = path.with_name(f"{path.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size > LARGE_WAL_BYTES:
        return warning(
            "write-ahead log", f"{wal} has grown to {size / 1e6:,.0f} MB",
            "a reader has kept the log open for a long time: find it, for example with lsof, and end it",
        )  # fmt: skip
    return ok("write-ahead log", f"{size / 1e6:,.1f} MB")

"""A log in an SQLite file, opened so that not even a side file is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lastseen.doctor.findings import Finding, error, ok, warning
from lastseen.engine.errors import LogUnavailable
from lastseen.engine.log.file_system import LOCAL_STEP, NETWORK, answer_text, kind_of, lock_failure
from lastseen.engine.log.port import Record
from lastseen.engine.log.sqlite.reader import SqliteLogReader

LARGE_WAL_BYTES = 256 * 1024 * 1024


class SqliteLogFile:
    """A log's file (`findings.ReadOnlyLog`)."""

    def __init__(self, log: SqliteLogReader) -> None:
        self._log, self.identity = log, log.identity
        self.starts = [0] * log.partitions
        self.ends = log.end_offsets()

    def read(self, partition: int, from_offset: int, limit: int) -> list[Record]:
        """Records from an offset on (`findings.ReadOnlyLog`)."""
        return self._log.read(partition, from_offset, limit)


@contextmanager
def opened_file(path: Path) -> Iterator[tuple[SqliteLogFile, list[Finding]]]:
    """The log at `path`, and what is to be said of its file. Raises `LogError`."""
    if not path.is_file() or not path.stat().st_size:
        raise LogUnavailable(f"there is no log at {path}: name it with --log or LASTSEEN_LOG")
    with closing(SqliteLogReader(str(path))) as reader:
        log = SqliteLogFile(reader)
        says = f"{path} holds {sum(log.ends):,} records in {len(log.ends)} partitions"
        yield log, [ok("log", says), _rights(path), _file_system(path), _wal(path)]


def _rights(path: Path) -> Finding:
    for place, right in ((path, os.R_OK | os.W_OK), (path.parent, os.W_OK | os.X_OK)):
        if not os.access(place, right):
            return error("rights", f"this user cannot write to {place}", "correct its owner or its permissions")
    return ok("rights", "this user can write to the log and its folder")


def _file_system(path: Path) -> Finding:
    """Whether its file system has locks that processes of one machine can rely on."""
    failure, kind = lock_failure(path.parent), kind_of(path)
    if failure is not None:
        return error("file system", f"{path} cannot be locked: {answer_text(path, failure)}", LOCAL_STEP)
    if kind in NETWORK:
        says = f"{path} is on {kind}, a network file system: write-ahead mode works for one machine's processes only"
        return warning("file system", says, LOCAL_STEP)
    return ok("file system", f"{f'{kind}: ' if kind else ''}it has locks")


def _wal(path: Path) -> Finding:
    wal = path.with_name(f"{path.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size > LARGE_WAL_BYTES:
        return warning(
            "write-ahead log", f"{wal} has grown to {size / 1e6:,.0f} MB",
            "a reader has kept the log open for a long time: find it, for example with lsof, and end it",
        )  # fmt: skip
    return ok("write-ahead log", f"{size / 1e6:,.1f} MB")

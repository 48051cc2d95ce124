"""A log's history as a file, and from a file into a log: every record with its verdict, without loss.

The rows follow the log, partition by partition, up to the ends that it had when the export began. So an interrupted
export continues after its last row. An import copies the file as `lastseen log copy` copies a log: with its times, into
any number of partitions, verified at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastseen.bulk.ordered_pages import records
from lastseen.copying.copy import Copied, copy_log, open_target
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.offline import existing_log_path
from lastseen.engine import events
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.errors import ExportError
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Mark, Record
from lastseen.engine.log.sqlite.reading import page_from
from lastseen.exchange.files import reader, writer
from lastseen.exchange.table import Header, Reader, Row
from lastseen.exchange.temporary_database import temporary_database
from lastseen.projections.partition import Outcome, Partition

PROGRESS_EVERY = 4_096


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export."""

    rows: int
    found: int
    """Rows that an earlier run had written."""
    later: int
    """Records appended to the log since the export began; they are not in it."""

    def as_dict(self) -> dict[str, int]:
        """All of it as plain JSON values."""
        return {"rows": self.rows, "rows_found": self.found, "records_later": self.later}


def export_history(url: str, path: Path, progress: Progress = lambda done, total: None) -> Exported:
    """Write the history of the log at `url` to `path`, or continue an interrupted run.

    Raises `ExportError`, `InvalidSetting` for another ending than .jsonl, .csv or .parquet, and the log's errors.
    """
    if url.startswith("sqlite:"):
        existing_log_path(url)
    log = open_log(url, SystemClock(), read_only=True)
    try:
        ends = log.end_offsets()
        with closing(writer(path, Header("history", log.identity, tuple(ends)))) as file:
            found, total = file.rows, sum(file.header.ends)
            if not file.is_finished:
                done = 0
                for number, end in enumerate(file.header.ends):
                    partition = Partition(number)
                    for record in records(log, number, end):
                        outcome = partition.fold(record)
                        done += 1
                        if done > found:
                            file.put(_row(outcome))
                        if done % PROGRESS_EVERY == 0:
                            progress(done, total)
                file.finish()
            progress(total, total)
            return Exported(file.rows, found, sum(ends) - total)
    finally:
        log.close()


def _row(outcome: Outcome) -> Row:
    record, event, verdict, at_ms, _, ended, ending = outcome
    return {
        "partition": record.partition, "offset": record.offset, "timestamp_ms": record.timestamp_ms, "at_ms": at_ms,
        "key": record.key, "verdict": verdict.label, "type": None if event is None else event.type,
        "session_id": event.data.session_id if isinstance(event, events.SessionEvent) else None,
        "event_id": None if event is None else event.id, "source": None if event is None else event.source,
        "value": record.value,
        "ended_session_id": None if ended is None else ended.session_id,
        "ended_at_ms": None if ending is None else ending.at_ms,
        "ended_reason": None if ending is None else ending.reason,
        "ended_owner": None if ended is None else ended.owner,
    }  # fmt: skip


def import_history(
    path: Path, url: str, *, clock: Clock | None = None, progress: Progress = lambda done, total: None
) -> Copied:
    """Import an exported history into the log at `url`, which is empty or holds the beginning of this very import.

    Raises `ExportError`, and what `copy_log` raises.
    """
    clock = clock or SystemClock()
    file = reader(path)
    if file.header.kind != "history":
        raise ExportError(f"{path} is an export of {file.header.kind}: {how_else(file.header.kind)}")
    with _as_log(path, file) as source:
        target = open_target(url, clock, source.partitions)
        try:
            return copy_log(source, target, clock=clock, progress=progress)
        finally:
            target.close()


def how_else(kind: str) -> str:
    return (
        "it is for analysis, import a history or sessions"
        if kind == "lives"
        else f"import it with lastseen import {kind}"
    )


_MARKS = {"control": Mark.CONTROL, "transactional": Mark.TRANSACTIONAL}
"""By verdict. An unreadable record has no content, so it is malformed without its mark."""


class RecordedLog:
    """An export that can be read like the log that it was made from (`ordered_pages.ReadableLog`)."""

    def __init__(self, header: Header, connection: sqlite3.Connection) -> None:
        self.identity = header.log
        self.partitions = len(header.ends)
        self._ends = list(header.ends)
        self._connection = connection

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on."""
        found = self._connection.execute(
            'SELECT partition, "offset", timestamp_ms, key, value, mark FROM records'
            ' WHERE partition = ? AND "offset" >= ? LIMIT ?',
            (partition, from_offset, max_records),
        )
        return [each if each.mark is None else each._replace(mark=Mark(each.mark)) for each in page_from(found)]

    def end_offsets(self) -> list[int]:
        """The offset after the last record of each partition."""
        return list(self._ends)


@contextmanager
def _as_log(path: Path, file: Reader) -> Iterator[RecordedLog]:
    """The export on a disk in a form that can be read from any offset."""
    with temporary_database() as connection:
        connection.execute(
            'CREATE TABLE records (partition INTEGER, "offset" INTEGER, timestamp_ms INTEGER, key TEXT, value BLOB,'
            ' mark INTEGER, PRIMARY KEY (partition, "offset")) WITHOUT ROWID'
        )
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", _checked(path, file))
        connection.execute("COMMIT")
        yield RecordedLog(file.header, connection)


def _checked(path: Path, file: Reader) -> Iterator[tuple[Any, ...]]:
    """The rows: none may be missing, repeated, or of the wrong type."""
    positions = ((number, offset) for number, end in enumerate(file.header.ends) for offset in range(end))
    for row, position in zip(file.rows(), positions, strict=False):
        found, key, value = (row["partition"], row["offset"]), row["key"], row["value"]
        is_valid = isinstance(key, str | None) and isinstance(value, bytes | None)
        if found != position or not is_valid or type(row["timestamp_ms"]) is not int:
            raise ExportError(
                f"{path}: expected partition {position[0]}, offset {position[1]}, and found {found}: export again"
            )
        yield (*position, row["timestamp_ms"], key, value, _MARKS.get(row["verdict"]))
    if file.count != sum(file.header.ends):
        raise ExportError(
            f"{path} has {file.count} rows, and the log had {sum(file.header.ends)} records: export again"
        )

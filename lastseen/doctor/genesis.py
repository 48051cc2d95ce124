"""Whether each partition begins with its genesis record, without which no engine opens the log."""

from __future__ import annotations

from collections.abc import Iterator

from lastseen.doctor.findings import Finding, ReadOnlyLog, error, note, ok
from lastseen.engine.errors import LogMismatch
from lastseen.engine.genesis import check_genesis
from lastseen.engine.log.port import Record


class _Beginning:
    """The first records of a log (`genesis.BeginningOfLog`)."""

    def __init__(self, log: ReadOnlyLog) -> None:
        self._log = log
        self.partitions = len(log.ends)

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        if self._log.starts[partition] > from_offset:
            raise LogMismatch(f"partition {partition} begins at offset {self._log.starts[partition]}")
        return self._log.read(partition, from_offset, max_records)


def genesis(log: ReadOnlyLog, *, is_file: bool) -> Iterator[Finding]:
    """What the first records say of the log. Raises `LogError` where they cannot be read."""
    if is_file and not any(log.ends):
        yield note("genesis", "the log is empty: the first engine that opens it writes its genesis records", "")
        return
    try:
        log_id = check_genesis(_Beginning(log))
    except LogMismatch as failure:
        yield error("genesis", str(failure), "do what the message says; until then no engine opens this log")
        return
    if log_id is None:
        yield note("genesis", "the genesis records were deleted: only a snapshot still names the log", "")
    else:
        yield ok("genesis", f"each partition begins as a part of log {log_id}")

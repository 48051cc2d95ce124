"""The end of a log as this process wrote it, kept for its own reader."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from lastseen.engine.log.port import Record
from lastseen.engine.log.read_size import page_of, values_bytes

MAX_RECORDS = 8_192
MAX_BYTES = 8 * 1024 * 1024
_partition = itemgetter(Record._fields.index("partition"))


class Tail:
    """For each partition the last records that were added without a gap, within bounds."""

    def __init__(self, partitions: int, max_records: int = MAX_RECORDS, max_bytes: int = MAX_BYTES) -> None:
        self._max_records = max(max_records // partitions, 1)
        self._max_bytes = max(max_bytes // partitions, 1)
        self._records: list[list[Record]] = [[] for _ in range(partitions)]
        self._bytes = [0] * partitions
        self._lock = threading.Lock()

    def add(self, records: Sequence[Record]) -> None:
        """Take the records of one commit, in the order of the log: those of a partition have no gap between them."""
        with self._lock:
            for partition, run in groupby(records, _partition):
                added = list(run)
                kept = self._records[partition]
                if kept and kept[-1].offset + 1 != added[0].offset:
                    # Another process has written in between: only the file holds that.
                    kept.clear()
                    self._bytes[partition] = 0
                kept += added
                self._bytes[partition] += values_bytes(added)
                while len(kept) > self._max_records or (self._bytes[partition] > self._max_bytes and kept):
                    dropped = kept[: len(kept) // 2 + 1]
                    del kept[: len(dropped)]
                    self._bytes[partition] -= values_bytes(dropped)

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on, if the first of them is here; else nothing."""
        with self._lock:
            kept = self._records[partition]
            if not kept or not kept[0].offset <= from_offset <= kept[-1].offset:
                return []
            start = from_offset - kept[0].offset
            return page_of(kept[start : start + max_records])

"""Runs of a partition's records kept in memory: what was just written, and what was fetched ahead.

A run is made of chunks, each a whole batch as it was written or fetched. A chunk becomes records when a reader
asks for them, and not before: a chunk that is never read costs a few bytes of bookkeeping.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from lastseen.engine.log.port import Record
from lastseen.engine.log.read_size import MAX_READ_BYTES, page_of, values_bytes

MakeRecords = Callable[[], Sequence[Record]]


class Chunk:
    """The records from `start` to before `end`, made when they are first asked for."""

    __slots__ = ("_make", "_records", "end", "size", "start")

    def __init__(self, start: int, end: int, size: int, make: MakeRecords) -> None:
        self.start = start
        self.end = end
        self.size = size
        self._make: MakeRecords | None = make
        self._records: Sequence[Record] | None = None

    def records(self) -> Sequence[Record]:
        """All of them. Raises what is wrong with them, each time again."""
        records = self._records
        if records is None:
            make = self._make
            # Two threads may meet here: then both make the same.
            records = self._records = make() if make is not None else self._records or []
            self._make = None
        return records


class RecordRun:
    """Chunks without a gap between them. Not thread-safe: threads that share it hold a lock."""

    __slots__ = ("_chunks", "_starts", "end", "size")

    def __init__(self, end: int = -1) -> None:
        self._chunks: list[Chunk] = []
        self._starts: list[int] = []
        self.end = end
        """The offset after the last record; where the run goes on."""
        self.size = 0
        """Bytes held, as they were written or fetched."""

    def restart(self, end: int) -> None:
        """Forget everything, and go on at `end`."""
        self._chunks.clear()
        self._starts.clear()
        self.end, self.size = end, 0

    def add(self, chunk: Chunk) -> bool:
        """Take the next chunk; whether it goes on where the run ended, which otherwise starts again with it."""
        follows = chunk.start == self.end
        if not follows:
            self.restart(chunk.start)
        self._chunks.append(chunk)
        self._starts.append(chunk.start)
        self.end, self.size = chunk.end, self.size + chunk.size
        return follows

    def find(self, offset: int, limit: int) -> Sequence[Chunk]:
        """The chunks with the records from `offset` on, at most as many as hold `limit` of them."""
        if not self._starts or not self._starts[0] <= offset < self.end:
            return ()
        first = bisect_right(self._starts, offset) - 1
        last = first + 1
        while last < len(self._chunks) and self._starts[last] < offset + limit:
            last += 1
        return self._chunks[first:last]

    def drop_before(self, offset: int) -> None:
        """Drop the chunks that lie wholly before `offset`."""
        count = bisect_right(self._starts, offset) - 1 if offset < self.end else len(self._starts)
        if count > 0:
            self._drop(count)

    def drop_oldest(self, most_bytes: int, most_chunks: int) -> None:
        """Drop the older half, if more is held than that."""
        if self.size > most_bytes or len(self._chunks) > most_chunks:
            self._drop(len(self._chunks) // 2 + 1)

    def _drop(self, count: int) -> None:
        self.size -= sum(chunk.size for chunk in self._chunks[:count])
        del self._chunks[:count], self._starts[:count]


def records_of(chunks: Sequence[Chunk], offset: int, limit: int) -> list[Record]:
    """The records from `offset` on out of chunks that a run has found, at most `limit`."""
    found: list[Record] = []
    size = 0
    for chunk in chunks:
        first = max(offset - chunk.start, 0)
        part = chunk.records()[first : first + limit - len(found)]
        found += part
        size += values_bytes(part)
        if size >= MAX_READ_BYTES:
            # The chunks behind stay as they were fetched: of each, megabytes may come out.
            return page_of(found)
    return found

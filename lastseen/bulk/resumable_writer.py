"""Appending a fixed sequence of records to a log: one way to begin, to continue and to repeat.

The sequence is the same each time it is made. Records that the log already holds must be the same bytes; the rest is
appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from lastseen.bulk.ordered_pages import PAGE_RECORDS, records
from lastseen.engine.errors import LogMismatch
from lastseen.engine.log.port import Log, Message, Position

BATCH_RECORDS = 2_000
BATCH_BYTES = 4 * 1024 * 1024
"""The most that is appended at a time."""


class ResumableWriter:
    """Writes a sequence of records to a log: compares those that are there, appends the others."""

    def __init__(self, log: Log, found: Sequence[int], what: str) -> None:
        """`found` are the ends of the log; `what` names the sequence in errors."""
        self._what = what
        self._log = log
        self._found = list(found)
        self._next = [0] * len(found)
        """The offset of the next message of each partition."""
        self._held = [records(log, number, end, _page(len(found))) for number, end in enumerate(found)]
        self._waiting: list[Message] = []
        self._positions: list[Position] = []
        self._waiting_bytes = 0
        self._in_flight: tuple[Future[list[Position]], list[Position]] | None = None
        """While the log writes one batch, the caller makes the next."""

    def put(self, message: Message) -> None:
        """Write the next message."""
        number, key, value = message
        position = Position(number, self._next[number])
        self._next[number] += 1
        if position.offset < self._found[number]:
            record = next(self._held[number])
            if (record.key, record.value) != (key, value):
                raise foreign(self._what, f"its record at offset {position.offset} of partition {number} differs")
            return
        self._waiting.append(message)
        self._positions.append(position)
        self._waiting_bytes += len(value)
        is_first = position == (0, 0)  # names the source: it must be there before any other
        if is_first or len(self._waiting) >= BATCH_RECORDS or self._waiting_bytes >= BATCH_BYTES:
            self._append()

    @property
    def ends(self) -> list[int]:
        """For each partition the offset after the last message that was put."""
        return list(self._next)

    @property
    def written(self) -> int:
        """How many records have been put so far, found ones included."""
        return sum(self._next)

    def finish(self, *, may_continue: bool = False) -> None:
        """Wait for everything. Raises `LogMismatch` if the log holds more records, unless it `may_continue`."""
        self._append()
        self._wait()
        if may_continue:
            return
        ends = self._log.end_offsets()
        if ends != self._next:
            number = next(each for each, end in enumerate(ends) if end != self._next[each])
            last = ends[number] - 1
            raise foreign(self._what, f"partition {number} continues after its last record, to offset {last}")

    def _append(self) -> None:
        self._wait()
        if self._waiting:
            self._in_flight = self._log.append_soon(self._waiting), self._positions
            self._waiting, self._positions, self._waiting_bytes = [], [], 0

    def _wait(self) -> None:
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None and in_flight[0].result() != in_flight[1]:
            raise foreign(self._what, "another process has written to it since")


def _page(partitions: int) -> int:
    return max(PAGE_RECORDS // partitions, 16)


def foreign(what: str, why: str) -> LogMismatch:
    """The error for a log that holds something else."""
    return LogMismatch(
        f"the target cannot take the {what}: {why}. Give an empty log (on Kafka, made with lastseen topics create"
        " --for-import), the one in which this was interrupted, or a new one"
    )

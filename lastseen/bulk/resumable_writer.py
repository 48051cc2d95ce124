"""Bringing a script, the same records whenever it is written, into a log: one way to begin, to continue and to repeat.

What the log holds already must be the same bytes, and what it does not hold yet is appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from lastseen.bulk.ordered_pages import PAGE_RECORDS, records
from lastseen.engine.errors import LogMismatch
from lastseen.engine.log.port import Log, Message, Position

BATCH_RECORDS = 2_000
BATCH_BYTES = 4 * 1024 * 1024
"""What is appended at a time, at most."""


class ScriptWriter:
    """Brings a script to the target: compares what is there, appends what is not."""

    def __init__(self, log: Log, found: Sequence[int], what: str) -> None:
        """`found` are the ends of the log; `what` names the script where the log holds anything else."""
        self._what = what
        self._log = log
        self._found = list(found)
        self._next = [0] * len(found)
        """Where the next message of each partition will stand."""
        self._there = [records(log, number, end, _page(len(found))) for number, end in enumerate(found)]
        self._waiting: list[Message] = []
        self._places: list[Position] = []
        self._waiting_bytes = 0
        self._under_way: tuple[Future[list[Position]], list[Position]] | None = None
        """While the log writes one batch, the script writes the next."""

    def put(self, message: Message) -> None:
        """The next message of the script."""
        number, key, value = message
        place = Position(number, self._next[number])
        self._next[number] += 1
        if place.offset < self._found[number]:
            record = next(self._there[number])
            if (record.key, record.value) != (key, value):
                raise foreign(self._what, f"its record at offset {place.offset} of partition {number} is another")
            return
        self._waiting.append(message)
        self._places.append(place)
        self._waiting_bytes += len(value)
        is_first = place == (0, 0)  # says what this is a copy of: it must be there before any other
        if is_first or len(self._waiting) >= BATCH_RECORDS or self._waiting_bytes >= BATCH_BYTES:
            self._hand_over()

    @property
    def written(self) -> int:
        """Records that the script has come to so far."""
        return sum(self._next)

    def finish(self, *, may_go_on: bool = False) -> None:
        """Wait for everything; raises `LogMismatch` where the target holds more than the script, unless it may."""
        self._hand_over()
        self._wait()
        if may_go_on:
            return
        ends = self._log.end_offsets()
        if ends != self._next:
            number = next(each for each, end in enumerate(ends) if end != self._next[each])
            raise foreign(self._what, f"partition {number} goes on after its last record, to offset {ends[number] - 1}")

    def _hand_over(self) -> None:
        self._wait()
        if self._waiting:
            self._under_way = self._log.append_soon(self._waiting), self._places
            self._waiting, self._places, self._waiting_bytes = [], [], 0

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None and under_way[0].result() != under_way[1]:
            raise foreign(self._what, "somebody else has written to it meanwhile")


def _page(partitions: int) -> int:
    return max(PAGE_RECORDS // partitions, 16)


def foreign(what: str, why: str) -> LogMismatch:
    """The error for a log that holds something else."""
    return LogMismatch(
        f"the target can take no {what}: {why}. Give a log that is empty, or the one in which this was interrupted; or"
        " make a new one"
    )

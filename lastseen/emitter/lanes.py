"""Events on their way out, in lanes: events that must keep their order are in one lane, and a lane has one batch in
flight.

A batch that fails is sent again before anything behind it, so nothing of a lane overtakes anything else of it, however
appends fail. A key belongs to one lane; where a log has few partitions, several lanes lead to each, so that the log
never waits for us. A batch is for one partition and no larger than what every log takes as a whole: it is in the log or
it is not.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from lastseen.engine.log.port import Message
from lastseen.engine.partitioner import partition_of

MAX_BATCH_EVENTS = 2_000
MAX_BATCH_BYTES = 512 * 1024
EVENT_OVERHEAD_BYTES = 100
"""What is counted for an event beside its key and value: about what stands around them in memory, and in a batch."""
MAX_LANES_PER_PARTITION = 4
ENOUGH_LANES = 16
"""With so many lanes all in all, one leads to each partition."""
_tuple = tuple.__new__
"""Makes a named tuple in half the time that its class takes."""


class Entry(NamedTuple):
    """An accepted event."""

    key: str
    value: bytes
    size: int
    added_s: float
    """When, by the monotonic clock."""
    epoch: int
    """Which flush covers it."""


class Batch:
    """What goes to the log at once, and its outcome so far."""

    __slots__ = ("attempts", "entries", "error", "is_doubtful", "messages")

    def __init__(self, partition: int, entries: list[Entry]) -> None:
        self.entries = entries
        self.messages = [_tuple(Message, (partition, key, value)) for key, value, _, _, _ in entries]
        self.attempts = 0
        self.is_doubtful = False
        """Whether an attempt may have written it."""
        self.error: Exception | None = None
        """Why the last attempt failed."""


class Lane:
    """Events of some keys of one partition, in their order."""

    __slots__ = ("batch", "entries", "is_ready", "partition", "retry_at_s")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.entries: deque[Entry] = deque()
        self.batch: Batch | None = None
        """In flight, or to be retried."""
        self.retry_at_s = 0.0
        self.is_ready = False
        """Whether its turn will come by itself."""

    def drop_older(self, than_s: float) -> list[Entry]:
        """Take out what was accepted before, from the head; the rest of a batch that failed stays one."""
        batch, dropped = self.batch, []
        if batch is not None:
            kept = [entry for entry in batch.entries if entry.added_s > than_s]
            if len(kept) == len(batch.entries):
                return []
            dropped = [entry for entry in batch.entries if entry.added_s <= than_s]
            self.batch = None
            if kept:
                self.batch = Batch(self.partition, kept)
                self.batch.attempts, self.batch.is_doubtful = batch.attempts, batch.is_doubtful
                self.batch.error = batch.error
            return dropped
        while self.entries and self.entries[0].added_s <= than_s:
            dropped.append(self.entries.popleft())
        return dropped

    def next_batch(self) -> Batch | None:
        """The batch that is to be tried again, or a new one; `None` if nothing waits."""
        if self.batch is None and self.entries:
            entries, popped = self.entries, self.entries.popleft
            taken = [popped()]
            size = taken[0].size
            while entries and len(taken) < MAX_BATCH_EVENTS:
                size += entries[0].size
                if size > MAX_BATCH_BYTES:
                    break
                taken.append(popped())
            self.batch = Batch(self.partition, taken)
        return self.batch

    def halve(self) -> None:
        """Put the second half of the batch back, to find out which event it is that the log does not take."""
        assert self.batch is not None, "called for a refused batch"
        entries = self.batch.entries
        middle = len(entries) // 2
        self.entries.extendleft(reversed(entries[middle:]))
        self.batch = Batch(self.partition, entries[:middle])

    def empty(self) -> list[Entry]:
        """Take out all that waits behind the batch."""
        entries = list(self.entries)
        self.entries.clear()
        return entries


class Lanes:
    """All lanes to a log with so many partitions."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._each = max(1, min(MAX_LANES_PER_PARTITION, ENOUGH_LANES // partitions))
        self.all = [[Lane(number) for _ in range(self._each)] for number in range(partitions)]

    def of(self, key: str) -> Lane:
        """The lane of a key: always the same."""
        lanes = self.all[partition_of(key, self.partitions)]
        return lanes[hash(key) % self._each] if self._each > 1 else lanes[0]

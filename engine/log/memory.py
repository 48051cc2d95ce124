"""`memory://`: a log in memory. The shortest spec of the port, and good for tests and for what may be forgotten."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future

from lastseen.engine.clock import Clock
from lastseen.engine.errors import EngineClosed, LogMismatch
from lastseen.engine.genesis import genesis_records
from lastseen.engine.log.message_checks import checked_size
from lastseen.engine.log.port import Message, Position, Record
from lastseen.engine.log.read_size import page_of


class MemoryLog:
    """Keeps each partition as a list. Gone with the process."""

    def __init__(self, clock: Clock, partitions: int = 1, *, genesis: bool = False) -> None:
        """A log of so many partitions; with `genesis`, each has its genesis record."""
        self._clock = clock
        self._records: list[list[Record]] = [[] for _ in range(partitions)]
        self._log_time_ms = 0
        self._grown = threading.Condition()
        self._is_closed = False
        self.identity = uuid.uuid4().hex
        self.partitions = partitions
        if genesis:
            self._keep(genesis_records(self.identity, partitions, clock.now_ms()))

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """Append all messages (`port.Log`)."""
        with self._grown:
            self._check_open()
            if not messages:
                return []
            checked_size(messages, self.partitions)
            positions = self._keep(messages)
            self._grown.notify_all()
            return positions

    def _keep(self, messages: Sequence[Message]) -> list[Position]:
        self._log_time_ms = max(self._log_time_ms, self._clock.now_ms())
        positions = []
        for partition, key, value in messages:
            records = self._records[partition]
            positions.append(Position(partition, len(records)))
            records.append(Record(partition, len(records), self._log_time_ms, key, value))
        return positions

    def append_soon(self, messages: Sequence[Message]) -> Future[list[Position]]:
        """Append all messages at once; there is nothing to wait for (`port.Log`)."""
        done: Future[list[Position]] = Future()
        done.set_result(self.append(messages))
        return done

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on (`port.Log`)."""
        with self._grown:
            self._check_open()
            records = self._records[partition]
            if not 0 <= from_offset <= len(records):
                raise LogMismatch(
                    f"partition {partition} holds offsets 0 to {len(records) - 1}, and {from_offset} was requested"
                )
            return page_of(records[from_offset : from_offset + max_records])

    def wait(self, position: Position, timeout_s: float) -> bool:
        """Wait until there is a record at `position` (`port.Log`)."""
        with self._grown:
            records = self._records[position.partition]
            self._grown.wait_for(lambda: self._is_closed or len(records) > position.offset, timeout_s)
            self._check_open()
            return len(records) > position.offset

    def end_offsets(self) -> list[int]:
        """The offset that the next record of each partition will have (`port.Log`)."""
        with self._grown:
            self._check_open()
            return [len(records) for records in self._records]

    def close(self) -> None:
        """Forget that there was a log (`port.Log`)."""
        with self._grown:
            self._is_closed = True
            self._grown.notify_all()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed("this log is closed: open it again")

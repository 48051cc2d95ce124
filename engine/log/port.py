"""The log port: what the engine asks of a log, whatever it is kept in. Pull-based: readers ask, nothing is pushed.

Every adapter passes the same contract suite, `tests/contracts/log_contract.py`, unchanged.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

MAX_PARTITIONS = 10_000


class Position(NamedTuple):
    """A place in the log."""

    partition: int
    offset: int


class Message(NamedTuple):
    """What a producer hands to the log."""

    partition: int
    key: str
    value: bytes


class Mark(enum.IntEnum):
    """What stands at an offset that holds no record of a session's producer."""

    CONTROL = 1
    """A marker of the log itself, as Kafka writes at the end of a transaction. It has no key and no value."""
    TRANSACTIONAL = 2
    """A record of a transactional batch, committed or not."""
    UNREADABLE = 3
    """One of a batch that cannot be unpacked, or only to more than a reader takes. It has no key and no value."""


class Record(NamedTuple):
    """What stands at a place in the log."""

    partition: int
    offset: int
    timestamp_ms: int
    """When the log took it, by the log's own clock."""
    key: str | None
    value: bytes | None
    mark: Mark | None = None
    """Why the offset holds no record that may take effect; `None` for all that a `Message` becomes."""


class Log(Protocol):
    """A partitioned, append-only sequence of records. Safe to call from many threads."""

    @property
    def identity(self) -> str:
        """Names this very log: another file or topic, or the same one recreated, has another identity."""
        ...

    @property
    def partitions(self) -> int:
        """How many partitions it has; fixed when the log is made."""
        ...

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """Append all messages; returns when they are durable, with their positions in the same order.

        Messages of one call to one partition stand in the log in their order. Raises `LogUnavailable` if nothing was
        written, `OutcomeUnknown` if that is not known, `EngineClosed` after `close`.
        """
        ...

    def append_soon(self, messages: Sequence[Message]) -> Future[list[Position]]:
        """The same without waiting. Raises `LogUnavailable` when too much is in flight."""
        ...

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on, at most `max_records` of them; empty at the end of the log.

        Large records come in less at a time (`page.MAX_READ_BYTES`), and at least one of them.
        Raises `LogMismatch` if `from_offset` lies before the log's first record or beyond its end.
        """
        ...

    def wait(self, position: Position, timeout_s: float) -> bool:
        """Wait until the log holds a record at `position`; whether it does. Raises `EngineClosed`, also in between."""
        ...

    def end_offsets(self) -> list[int]:
        """For each partition, the offset that its next record will have."""
        ...

    def close(self) -> None:
        """Finish appends in progress and free all resources. May be called again."""
        ...

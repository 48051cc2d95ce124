"""The simulated log: partitions with clocks of their own, a network that delays and reorders, and the ways to it.

A node's way to the log (`Line`) can be armed with one fault, which hits its next append. What really stands in the log
is known here alone; callers keep what they received.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from random import Random
from typing import NamedTuple

from lastseen.engine.errors import EngineClosed, LogMismatch, LogUnavailable, OutcomeUnknown
from lastseen.engine.genesis import genesis
from lastseen.engine.log.message_checks import checked_size
from lastseen.engine.log.port import Mark, Message, Position, Record
from lastseen.engine.partitioner import partition_of
from tests.simulation.group import Group, Member
from tests.simulation.topics import Topics, Way

T0 = 1_700_000_000_000


class Crash(BaseException):
    """The process is gone, in the middle of what it did."""


class Sent(NamedTuple):
    """A message on its way."""

    arrives_ms: int
    messages: Sequence[Message]
    arrived: Callable[[Sequence[Position]], None]


class Brokers:
    """All partitions, and true time."""

    def __init__(self, partitions: int, steady: bool) -> None:
        self.now_ms = T0
        """True time; every clock is this, and an error."""
        self.skews_ms = [0] * partitions
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.true_ms: list[list[int]] = [[] for _ in range(partitions)]
        """When each record really reached the log."""
        self.labels: dict[tuple[int, int], str] = {}
        """The verdict that rotten records deserve, by their place."""
        self.rotten: dict[bytes | None, str] = {}
        self.identity = "simulated"
        self.first_offset = [0] * partitions
        self.topics = Topics(partitions)
        self.group = Group(partitions)
        self._steady = steady
        self._in_flight: list[Sent] = []
        self.land(
            [
                genesis(self.identity, number, partitions, T0, source="/made", event_id=f"genesis-{number}")
                for number in range(partitions)
            ]
        )

    @property
    def partitions(self) -> int:
        """How many."""
        return len(self.records)

    def log_time_ms(self, partition: int) -> int:
        """What the clock of a partition's leader says."""
        at_ms = self.now_ms + self.skews_ms[partition]
        records = self.records[partition]
        return max(at_ms, records[-1].timestamp_ms) if self._steady and records else at_ms

    def land(self, messages: Sequence[Message]) -> list[Position]:
        """Messages reach the log."""
        positions = []
        for partition, key, value in messages:
            records = self.records[partition]
            offset = records[-1].offset + 1 if records else self.first_offset[partition]
            label = self.rotten.get(value)
            if (
                label != "malformed"
                and b"lastseen.log." not in value
                and partition_of(key, self.partitions) != partition
            ):
                label = "wrong_partition"
            if label is not None:
                self.labels[partition, offset] = label
            records.append(Record(partition, offset, self.log_time_ms(partition), key, value))
            self.true_ms[partition].append(self.now_ms)
            positions.append(Position(partition, offset))
        return positions

    def mark(self, partition: int, key: str | None, value: bytes | None, mark: Mark, verdict: str) -> None:
        """A transaction, or a batch that cannot be unpacked, reaches the log."""
        (position,) = self.land([Message(partition, key or "", value or b"")])
        records = self.records[partition]
        records[-1] = records[-1]._replace(key=key, value=value, mark=mark)
        self.labels[position] = verdict

    def send(
        self, messages: Sequence[Message], delay_ms: int, arrived: Callable[[Sequence[Position]], None] = lambda _: None
    ) -> None:
        """Messages set out; what sets out later may arrive sooner."""
        self._in_flight.append(Sent(self.now_ms + delay_ms, messages, arrived))

    def let_pass(self, by_ms: int) -> None:
        """True time goes on, and what arrives meanwhile lands at its moment."""
        until_ms = self.now_ms + by_ms
        while True:
            # The oldest arrival first; of two at once, the one that set out first.
            due = min(self._in_flight, key=lambda sent: sent.arrives_ms, default=None)
            if due is None or due.arrives_ms > until_ms:
                break
            self._in_flight.remove(due)
            self.now_ms = max(self.now_ms, due.arrives_ms)
            due.arrived(self.land(due.messages))
        self.now_ms = until_ms

    def deliver_all(self) -> None:
        """The network is quiet again."""
        while self._in_flight:
            sent = self._in_flight.pop(0)
            sent.arrived(self.land(sent.messages))

    def ends(self) -> list[int]:
        """The offset after each partition's last record."""
        return [
            records[-1].offset + 1 if records else first
            for records, first in zip(self.records, self.first_offset, strict=True)
        ]


class Appended(NamedTuple):
    """What a node handed to the log, and where it stood at once, if it did."""

    messages: Sequence[Message]
    positions: Sequence[Position] | None
    soon: bool = False
    """Whether no caller waited for it."""


class Line:
    """One node's way to the brokers: `port.Log` and `shared_log.SharedLog`."""

    def __init__(self, brokers: Brokers, node: int, draw: Random, happened: Callable[[str], None]) -> None:
        self._brokers = brokers
        self._node = node
        self._draw = draw
        self._happened = happened
        self._is_closed = False
        self.armed: str | None = None
        """The fault that the next append meets."""
        self.read_limit = 512
        """At most so many records come at a time."""
        self.appended: list[Appended] = []
        """Everything this node sent since the last note of it."""
        self.failed = False
        """Whether a fault has hit since the last note of it."""
        self.partitions = brokers.partitions
        self.identity = brokers.identity

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """Append, or meet the fault that is armed (`port.Log`)."""
        self._check_open()
        checked_size(messages, self.partitions)
        fault, self.armed = self.armed, None
        if fault is not None and messages:
            return self._failing(fault, messages)
        positions = self._brokers.land(messages)
        self.appended.append(Appended(messages, positions))
        return positions

    def _failing(self, fault: str, messages: Sequence[Message]) -> list[Position]:
        self._happened(fault)
        self.failed = True
        land, draw = self._brokers.land, self._draw
        if fault == "unavailable":
            self.appended.append(Appended(messages, None))
            raise LogUnavailable("the brokers are out of reach")
        if fault == "duplicated":  # the acknowledgement was lost, and the producer sent it again
            first = land(messages)
            again = land(messages)
            positions = draw.choice([first, again])
            self.appended.append(Appended(messages, positions))
            return positions
        if fault == "crash before append":
            raise Crash
        if fault == "crash after append":
            land(messages)
            raise Crash
        self.appended.append(Appended(messages, None))
        if fault == "lost acknowledgement":
            land(messages)
        elif fault == "half of a batch":
            land(messages[: len(messages) // 2])
        elif fault == "delayed":
            self._brokers.send(messages, draw.choice([1, 900, 5_000, 60_000, 400_000, 700_000]))
        else:
            assert fault == "lost", fault
        raise OutcomeUnknown("no acknowledgement came")

    def append_soon(self, messages: Sequence[Message]) -> Future[list[Position]]:
        """Append without waiting (`port.Log`)."""
        self._check_open()
        checked_size(messages, self.partitions)
        fault, self.armed = self.armed, None
        done: Future[list[Position]] = Future()
        self.appended.append(Appended(messages, None, soon=True))
        if fault is None:
            self._brokers.send(messages, self._draw.choice([0, 0, 5, 3_000]), lambda places: done.set_result([*places]))
            self._brokers.let_pass(0)
        else:
            self._happened("unavailable")
            self.failed = True
            done.set_exception(LogUnavailable("the brokers are out of reach"))
        return done

    def read(self, partition: int, from_offset: int, max_records: int) -> list[Record]:
        """The records from `from_offset` on (`port.Log`)."""
        self._check_open()
        first, end = self._brokers.first_offset[partition], self._brokers.ends()[partition]
        if not first <= from_offset <= end:
            raise LogMismatch(f"partition {partition} holds offsets {first} to {end - 1}; {from_offset} was requested")
        limit = min(max_records, self.read_limit)
        records = self._brokers.records[partition]
        if not records or records[-1].offset - records[0].offset + 1 == len(records):
            start = max(from_offset - (records[0].offset if records else 0), 0)
            return records[start : start + limit]
        return [record for record in records if record.offset >= from_offset][:limit]

    def wait(self, position: Position, timeout_s: float) -> bool:  # noqa: ARG002 - the port's
        """Whether there is a record at `position` (`port.Log`)."""
        self._check_open()
        return self._brokers.ends()[position.partition] > position.offset

    def end_offsets(self) -> list[int]:
        """For each partition, the offset that its next record will have (`port.Log`)."""
        self._check_open()
        return self._brokers.ends()

    def close(self) -> None:
        """Let go (`port.Log`)."""
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed("this log is closed")

    # ── what machines share ──

    def join(self, *_: object) -> Member:
        """Take a share of the duties (`shared_log.SharedLog`)."""
        return self._brokers.group.join(self._node)

    def await_growth(self, ends: Sequence[int], timeout_s: float) -> list[int]:  # noqa: ARG002
        """The ends as far as they are known here: some records may not be known yet (`shared_log.SharedLog`)."""
        self._check_open()
        known = self._brokers.ends()
        if len(ends) != len(known):
            return known
        return [max(before, now - self._draw.choice([0, 0, 1, 3])) for before, now in zip(ends, known, strict=True)]

    def open_fact_publisher(self) -> Way:
        """The topics beside the log (`shared_log.SharedLog`)."""
        self.fact_publisher = Way(self._brokers.topics, self._happened)
        return self.fact_publisher

"""Messages on their way into a topic: what each call has sent, in pieces, and the lanes that join them to batches."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future

from lastseen.engine.errors import LastseenError, OutcomeUnknown
from lastseen.engine.log.kafka.records import RECORD_OVERHEAD_BYTES
from lastseen.engine.log.port import Message, Position

_tuple = tuple.__new__
"""Makes a named tuple in half the time that its class takes."""
MAX_BATCH_MESSAGES = 2_000
MAX_IN_FLIGHT = 4
"""Batches of a partition that the producer has, at most."""


class Append:
    """One call's messages, and their outcome. Its latch is a bare lock: a future costs several times as much."""

    __slots__ = (
        "_latch", "created_s", "error", "future", "is_finished", "messages", "positions", "size", "unfinished",
        "written",
    )  # fmt: skip

    def __init__(self, messages: Sequence[Message], size: int, future: Future[list[Position]] | None) -> None:
        self.messages = messages
        self.size = size
        self.created_s = time.monotonic()
        self.positions: list[Position] = []
        self.error: LastseenError | None = None
        self.unfinished = 0
        """Parts of it that are on their way."""
        self.written = 0
        """Parts of it that the log has."""
        self.future = future
        self.is_finished = False
        self._latch = threading.Lock()
        self._latch.acquire()

    def finish(self) -> None:
        """Tell the caller that waits."""
        if self.error is not None and self.written and not isinstance(self.error, OutcomeUnknown):
            self.error = OutcomeUnknown(f"the log has only a part of the append: {self.error}")
        self._latch.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is finished; whether it is."""
        self.is_finished = self.is_finished or self._latch.acquire(timeout=max(timeout_s, 0))
        return self.is_finished

    def result(self) -> list[Position]:
        """The positions, or the error. Asked after waiting."""
        if not self.is_finished:
            raise OutcomeUnknown("the log did not report the outcome of the append in time. Read before you try again")
        if self.error is not None:
            raise self.error
        return self.positions

    def resolve(self) -> None:
        """Tell the caller that did not wait."""
        assert self.future is not None, "called only for those that have one"
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.positions)


class Piece:
    """What stays together of an append: messages for one partition that fit into a batch."""

    __slots__ = ("append", "indexes", "messages", "size")

    def __init__(self, append: Append, messages: Sequence[Message], indexes: Sequence[int] | None, size: int) -> None:
        self.append = append
        self.messages = messages
        self.indexes = indexes
        """Which of the call's messages they are; all of them, in order, where this is `None`."""
        self.size = size


class Lane:
    """What waits for one partition."""

    __slots__ = ("in_flight", "is_sending", "max_bytes", "messages", "number", "pieces", "size")

    def __init__(self, number: int, max_bytes: int) -> None:
        self.number = number
        self.max_bytes = max_bytes
        self.pieces: deque[Piece] = deque()
        self.messages = 0
        self.size = 0
        self.in_flight = 0
        self.is_sending = False

    def put(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.messages += len(piece.messages)
        self.size += piece.size

    def take(self) -> Piece:
        piece = self.pieces.popleft()
        self.messages -= len(piece.messages)
        self.size -= piece.size
        return piece

    def is_ready(self) -> bool:
        """Whether a batch should be handed over now."""
        if not self.pieces or self.in_flight >= MAX_IN_FLIGHT:
            return False
        return not self.in_flight or self.messages >= MAX_BATCH_MESSAGES or self.size >= self.max_bytes

    def take_batch(self) -> list[Piece]:
        """The pieces at the head that make a batch together."""
        pieces = [self.take()]
        count, size = len(pieces[0].messages), pieces[0].size
        while self.pieces:
            count += len(self.pieces[0].messages)
            size += self.pieces[0].size
            if count > MAX_BATCH_MESSAGES or size > self.max_bytes:
                break
            pieces.append(self.take())
        return pieces


def cut(append: Append, sizes: Sequence[int], max_bytes: int) -> list[tuple[int, Piece]]:
    """An append as pieces that each fit into a batch."""
    messages = append.messages
    first = messages[0].partition
    if (
        len(messages) <= MAX_BATCH_MESSAGES
        and append.size <= max_bytes
        and all(message[0] == first for message in messages)
    ):
        return [(first, Piece(append, messages, None, append.size))]
    by_partition: defaultdict[int, list[int]] = defaultdict(list)
    for index, message in enumerate(messages):
        by_partition[message[0]].append(index)
    append.positions = [Position(-1, -1)] * len(messages)
    return [
        (partition, Piece(append, [messages[each] for each in indexes], indexes, sum(sizes[each] for each in indexes)))
        for partition, held in by_partition.items()
        for indexes in _split_by_size(held, sizes, max_bytes)
    ]


def _split_by_size(indexes: list[int], sizes: Sequence[int], max_bytes: int) -> list[list[int]]:
    """One partition's messages, by the batches that they fit into."""
    groups: list[list[int]] = []
    size = 0
    for index in indexes:
        size += sizes[index]
        if not groups or size > max_bytes or len(groups[-1]) == MAX_BATCH_MESSAGES:
            groups.append([])
            size = sizes[index]
        groups[-1].append(index)
    return groups


def record_positions(piece: Piece, partition: int, offsets: Sequence[int]) -> None:
    """Note the positions of a piece's messages in its append."""
    positions = [_tuple(Position, (partition, offset)) for offset in offsets]
    if piece.indexes is None:
        piece.append.positions = positions
    else:
        for index, position in zip(piece.indexes, positions, strict=True):
            piece.append.positions[index] = position


def sizes_of(messages: Sequence[Message], headers_size: int) -> list[int]:
    """The bytes that each message takes in a batch, at most."""
    around = RECORD_OVERHEAD_BYTES + headers_size
    return [
        around + len(value or b"") + (len(key) if key.isascii() else len(key.encode())) for _, key, value in messages
    ]

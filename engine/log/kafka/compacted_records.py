"""The records of a fetched batch of a compacted topic, whatever its producer has put into it.

A compacted batch has gaps: each record says by its delta which offset it has. What cannot be read is left out, as one
record without key and value for the whole batch: a later state replaces it, and nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lastseen.engine.log.kafka.decompression import Unreadable, inflate
from lastseen.engine.log.kafka.library_internals import batch_body
from lastseen.engine.log.kafka.records import MAX_VARINT_SHIFT
from lastseen.engine.log.port import Mark, Record


def compacted_records(partition: int, batch: Any) -> Iterator[Record]:
    """The records that are left of a batch; a marker of a transaction gives none."""
    if batch.is_control_batch:
        return
    start, at_ms = batch.base_offset, batch.max_timestamp
    mark = Mark.TRANSACTIONAL if batch.is_transactional else None
    try:
        if batch.magic != 2 or not batch.validate_crc():
            raise Unreadable("it does not match its checksum or its format")
        body = inflate(batch.compression_type, batch_body(batch))
        index = 0
        for _ in range(batch.records_count):
            delta, key, value, index = _decode(body, index)
            if not 0 <= delta < batch.next_offset - start:
                raise Unreadable("a record has an offset outside its batch")
            yield Record(partition, start + delta, at_ms, key, value, mark)
    except (IndexError, Unreadable):
        yield Record(partition, batch.next_offset - 1, at_ms, None, None, Mark.UNREADABLE)


def _decode(body: bytes, index: int) -> tuple[int, str | None, bytes | None, int]:
    """Offset delta, key and value of the record at an index, and where the next one begins; raises `IndexError`."""
    length, index = _number(body, index)
    end = index + length
    _, index = _number(body, index + 1)
    delta, index = _number(body, index)
    key, index = _field(body, index)
    value, index = _field(body, index)
    if not index < end <= len(body):
        raise IndexError
    try:
        return delta, None if key is None else key.decode(), value, end
    except UnicodeDecodeError:
        return delta, None, value, end


def _field(body: bytes, index: int) -> tuple[bytes | None, int]:
    size, index = _number(body, index)
    return (None, index) if size < 0 else (body[index : index + size], index + size)


def _number(body: bytes, index: int) -> tuple[int, int]:
    """A signed varint, and what follows it."""
    number = shift = 0
    while True:
        byte = body[index]
        index += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number >> 1 ^ -(number & 1), index
        shift += 7
        if shift > MAX_VARINT_SHIFT:
            raise IndexError

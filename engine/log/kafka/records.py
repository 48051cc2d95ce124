"""Kafka's record format, version 2: whole batches of records as bytes, and back.

::

    record = length attributes timestamp_delta offset_delta key_length key value_length value header_count headers
    header = name_length name value_length value

Every number is a zigzag varint, attributes (one byte, 0) apart; a length of -1 means null. Of the timestamps only the
batch's own matters here: with LogAppendTime all records of a batch bear the time at which the broker took it.
kafka-python makes and reads the same bytes, at ten times the cost: it does so record by record, and builds an object
or two for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from lastseen.engine.log.kafka.decompression import Unreadable
from lastseen.engine.log.port import Mark, Message, Record

MAX_BATCH_BYTES = 512 * 1024
"""The most that the records of a batch of ours take."""
BATCH_OVERHEAD_BYTES = 61
"""The header of a batch."""
RECORD_OVERHEAD_BYTES = 24
"""What stands around a record's key, value and headers at most."""
MAX_VARINT_SHIFT = 63
"""Where the last byte of the longest number stands, which has 64 bits: what goes on behind it is none."""
EVENT_HEADERS = (("content-type", b"application/cloudevents+json"),)
"""By this header others know a CloudEvent in structured mode (the CloudEvents binding for Kafka, 3.3)."""
Headers = Sequence[tuple[str, bytes]]


def _varint(number: int) -> bytes:
    rest = number << 1
    coded = bytearray()
    while rest > 0x7F:
        coded.append(rest & 0x7F | 0x80)
        rest >>= 7
    coded.append(rest)
    return bytes(coded)


_SHORT = [_varint(number) for number in range(4096)]
_NULL = b"\x01"
"""The length -1."""


def varint(number: int) -> bytes:
    """`number`, at least 0, as a zigzag varint."""
    return _SHORT[number] if number < 4096 else _varint(number)


def encoded_headers(headers: Headers) -> bytes:
    """What stands at the end of each record for `headers`."""
    coded = [varint(len(headers))]
    for name, value in headers:
        coded += [varint(len(name.encode())), name.encode(), varint(len(value)), value]
    return b"".join(coded)


def encode(messages: Sequence[Message], headers: bytes) -> bytes:
    """The records of a batch. A message whose value is `None` becomes a tombstone."""
    coded: list[bytes] = []
    short, tail = _SHORT, len(headers) + 2
    for delta, (_, key, value) in enumerate(messages):
        key_bytes = key.encode()
        key_size = len(key_bytes)
        offset, key_length = varint(delta), varint(key_size)
        if value is None:
            length = tail + len(offset) + len(key_length) + key_size + 1
            coded += (varint(length), b"\0\0", offset, key_length, key_bytes, _NULL, headers)
            continue
        size = len(value)
        value_length = short[size] if size < 4096 else _varint(size)
        length = tail + len(offset) + len(key_length) + key_size + len(value_length) + size
        coded += (
            short[length] if length < 4096 else _varint(length), b"\0\0",
            offset, key_length, key_bytes, value_length, value, headers,
        )  # fmt: skip
    return b"".join(coded)


def decode_from(
    body: bytes, index: int, first: int, count: int, partition: int, base_offset: int, first_timestamp_ms: int,
    log_append_time_ms: int | None, mark: Mark | None = None,
) -> tuple[list[Record], int]:  # fmt: skip
    """`count` records of a batch, of which the `first` begins at `index` of its body; and where the next one begins.

    With a log append time, that is when each was taken; else the batch's first timestamp counts. All bear the `mark`.
    A key that is not UTF-8 becomes `None`. Raises `Unreadable` where the bytes are no such records.
    """
    records = []
    at_ms = log_append_time_ms or 0
    try:
        for expected in range(first, first + count):
            length = body[index]
            index += 1
            if length > 0x7F:
                length, index = _long(body, index, length)
            end = index + (length >> 1)
            delta_ms = body[index + 1]
            index += 2
            if delta_ms > 0x7F:
                delta_ms, index = _long(body, index, delta_ms)
            delta = body[index]
            index += 1
            if delta > 0x7F:
                delta, index = _long(body, index, delta)
            if delta != expected << 1:
                raise IndexError
            size = body[index]
            index += 1
            if size > 0x7F:
                size, index = _long(body, index, size)
            key: str | None = None
            if not size & 1:
                size >>= 1
                try:
                    key = body[index : index + size].decode()
                except UnicodeDecodeError:
                    key = None
                index += size
            size = body[index]
            index += 1
            if size > 0x7F:
                size, index = _long(body, index, size)
            value = None
            if not size & 1:
                size >>= 1
                value = body[index : index + size]
                index += size
            if index >= end or end > len(body):
                raise IndexError
            index = end
            if log_append_time_ms is None:
                at_ms = first_timestamp_ms + (delta_ms >> 1 ^ -(delta_ms & 1))
            records.append(Record(partition, base_offset + expected, at_ms, key, value, mark))
    except IndexError:
        raise Unreadable("its bytes are not records") from None
    return records, index


def _long(body: bytes, index: int, number: int) -> tuple[int, int]:
    """A varint that goes on after its first byte, `number`: itself, still zigzag, and the place after it."""
    number &= 0x7F
    shift = 7
    while True:
        byte = body[index]
        index += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, index
        shift += 7
        if shift > MAX_VARINT_SHIFT:
            raise IndexError

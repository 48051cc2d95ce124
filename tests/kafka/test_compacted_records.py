"""What is read of a batch of a compacted topic: the records that are left, each at its own offset."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from crc32c import crc32c
from kafka.record import MemoryRecords
from raw_batches import AT_MS, batch_of, body_of

from lastseen.engine.log.kafka.compacted_records import compacted_records
from lastseen.engine.log.kafka.decompression import GZIP, MAX_INFLATED_BYTES
from lastseen.engine.log.port import Mark, Record

SENT = [("a", b"1"), ("b", b"2"), ("c", b"3")]
UNREADABLE = Record(0, 2, AT_MS, None, None, Mark.UNREADABLE)


def only(raw: bytes) -> Any:
    """The one batch that these bytes are."""
    return MemoryRecords(raw).next_batch()


def compacted(body: bytes, count: int, codec: int = 0, attributes: int = 0) -> Any:
    """A batch of three offsets of which `count` records are left."""
    checked = struct.pack(">hiqqqhii", codec | attributes, 2, AT_MS, AT_MS, -1, -1, -1, count) + body
    return only(struct.pack(">qiibI", 0, len(checked) + 9, -1, 2, crc32c(checked)) + checked)


def without_b() -> bytes:
    """The records, the middle one of which was compacted away."""
    whole, first, two = body_of(SENT), body_of(SENT[:1]), body_of(SENT[:2])
    return first + whole[len(two) :]


@pytest.mark.parametrize("codec", [0, GZIP])
def test_the_records_that_are_left_keep_their_offsets(codec: int) -> None:
    body = without_b()
    batch = compacted(zlib.compress(body, wbits=31) if codec else body, 2, codec)
    assert list(compacted_records(0, batch)) == [Record(0, 0, AT_MS, "a", b"1"), Record(0, 2, AT_MS, "c", b"3")]


def test_a_batch_of_which_nothing_is_left_has_no_records() -> None:
    assert list(compacted_records(0, compacted(b"", 0))) == []


def test_a_marker_has_no_records_and_a_transactional_record_is_marked() -> None:
    assert list(compacted_records(0, compacted(body_of(SENT), 3, attributes=0x30))) == []
    found = list(compacted_records(0, compacted(body_of(SENT), 3, attributes=0x10)))
    assert [(each.key, each.mark) for each in found] == [(key, Mark.TRANSACTIONAL) for key, _ in SENT]


def test_what_cannot_be_read_is_one_record_without_key_and_value() -> None:
    body = body_of(SENT)
    explodes = zlib.compress(bytes(MAX_INFLATED_BYTES + 1), wbits=31)
    assert list(compacted_records(0, compacted(b"no gzip", 3, GZIP))) == [UNREADABLE]
    assert list(compacted_records(0, compacted(explodes, 3, GZIP))) == [UNREADABLE]
    assert list(compacted_records(0, compacted(body[:-1], 3)))[-1] == UNREADABLE
    assert list(compacted_records(0, compacted(body.replace(b"\x04\x02c", b"\x08\x02c"), 3)))[-1] == UNREADABLE
    damaged = bytearray(batch_of(body, 3, 0))
    damaged[-3] ^= 1
    assert list(compacted_records(0, only(bytes(damaged)))) == [UNREADABLE]


def test_a_key_that_is_no_text_and_a_tombstone_are_given() -> None:
    body = body_of([("a", b"1")]).replace(b"\x02a", b"\x02\xff")
    found = list(compacted_records(0, only(batch_of(body, 1, 0))))
    assert [(each.key, each.value, each.mark) for each in found] == [(None, b"1", None)]

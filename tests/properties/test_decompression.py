"""Inflating batches: what a codec writes comes back, all else is unreadable, and none takes more than the limit."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Any

import cramjam
import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastseen.engine.errors import UnsupportedLibrary
from lastseen.engine.log.kafka import decompression
from lastseen.engine.log.kafka.batch_records import MAX_RECORDS_AT_ONCE, PAGE_RECORDS, VoidRecords, records_in
from lastseen.engine.log.kafka.decompression import (
    GZIP,
    LZ4,
    MAX_INFLATED_BYTES,
    NONE,
    PIECE_BYTES,
    SNAPPY,
    ZSTD,
    Unreadable,
    inflate,
)
from lastseen.engine.log.kafka.records import encode, encoded_headers
from lastseen.engine.log.port import Mark, Message, Record

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

XERIAL_HEADER = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"


def gzip(data: bytes) -> bytes:
    return zlib.compress(data, wbits=31)


def xerial(data: bytes) -> bytes:
    """Blocks of 32 KiB, as the Java client writes them."""
    blocks = [bytes(cramjam.snappy.compress_raw(data[at : at + 32_768])) for at in range(0, len(data), 32_768)]
    return XERIAL_HEADER + b"".join(len(block).to_bytes(4, "big") + block for block in blocks)


WRITERS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (GZIP, gzip),
    "snappy": (SNAPPY, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "xerial": (SNAPPY, xerial),
    "lz4": (LZ4, lz4.frame.compress),
    "lz4 in linked blocks": (LZ4, lambda data: lz4.frame.compress(data, block_linked=True, content_checksum=True)),
    "zstd": (ZSTD, zstd.compress),
}
FRAMED = [name for name, (codec, _) in WRITERS.items() if codec != SNAPPY]
"""Formats that know where they end."""
by_writer = pytest.mark.parametrize("writer", WRITERS)
contents = st.one_of(
    st.binary(max_size=3_000), st.builds(lambda part, n: part * n, st.binary(max_size=99), st.integers(0, 999))
)


def refuses(codec: int, data: bytes, limit: int = MAX_INFLATED_BYTES) -> str:
    """Why data is unreadable."""
    with pytest.raises(Unreadable) as refusal:
        inflate(codec, data, limit)
    return str(refusal.value)


# ── what was compressed ──


@by_writer
@given(content=contents)
def test_what_was_compressed_comes_back(writer: str, content: bytes) -> None:
    codec, compress = WRITERS[writer]
    assert inflate(codec, compress(content)) == content
    assert inflate(NONE, content) == content


@by_writer
def test_more_than_a_piece_comes_back(writer: str) -> None:
    codec, compress = WRITERS[writer]
    content = b"".join(b"%d " % number for number in range(PIECE_BYTES // 2))
    assert len(content) > 2 * PIECE_BYTES
    assert inflate(codec, compress(content)) == content


@pytest.mark.parametrize("writer", FRAMED)
@given(content=contents, more=contents)
def test_frames_one_after_another_are_one(writer: str, content: bytes, more: bytes) -> None:
    codec, compress = WRITERS[writer]
    assert inflate(codec, compress(content) + compress(more)) == content + more


# ── what was damaged ──


@by_writer
@given(content=contents, data=st.data())
def test_what_was_cut_short_is_unreadable(writer: str, content: bytes, data: st.DataObject) -> None:
    codec, compress = WRITERS[writer]
    whole = compress(content)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    if writer == "xerial" and len(cut) >= len(XERIAL_HEADER):
        # Between two blocks it is whole.
        try:
            assert content.startswith(inflate(codec, cut))
        except Unreadable:
            return
    else:
        refuses(codec, cut)


@pytest.mark.parametrize("writer", FRAMED)
@given(content=contents, behind=st.binary(min_size=1, max_size=40))
def test_other_bytes_behind_are_unreadable(writer: str, content: bytes, behind: bytes) -> None:
    codec, compress = WRITERS[writer]
    refuses(codec, compress(content) + b"\x00" + behind)


@pytest.mark.parametrize("codec", [*range(9), -1])
@given(data=st.binary(max_size=500))
def test_any_bytes_are_read_or_refused(codec: int, data: bytes) -> None:
    for start in (b"", XERIAL_HEADER, b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08\x00"):
        try:
            size = len(inflate(codec, start + data))
        except Unreadable:
            size = 0
        assert size <= MAX_INFLATED_BYTES


# ── what explodes ──


@by_writer
def test_the_limit_is_exact(writer: str) -> None:
    codec, compress = WRITERS[writer]
    for size in (PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES):
        whole = compress(b"a" * size)
        assert len(inflate(codec, whole, size)) == size
        assert f"more than {size - 1} bytes" in refuses(codec, whole, size - 1)


@pytest.mark.parametrize("declared", [MAX_INFLATED_BYTES + 1, 2**32 - 1])
def test_a_snappy_block_that_declares_too_much_is_refused_unread(
    declared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cramjam.snappy, "decompress_raw_into", None)
    for start in (b"", XERIAL_HEADER):
        block = uvarint(declared) + b"\x00a"
        data = start + len(block).to_bytes(4, "big") + block if start else block
        assert "more than 33554432 bytes" in refuses(SNAPPY, data)


@pytest.mark.parametrize("declared", [0, 2, 4, 1_000, MAX_INFLATED_BYTES])
def test_a_snappy_block_of_another_size_than_it_declares_is_unreadable(declared: int) -> None:
    three = b"\x08abc"
    assert inflate(SNAPPY, uvarint(3) + three) == b"abc"
    refuses(SNAPPY, uvarint(declared) + three)


def test_a_zstd_frame_whose_window_is_too_large_is_unreadable() -> None:
    def compress(window_log: int) -> bytes:
        compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
        return compressor.compress(b"a") + compressor.flush()

    assert inflate(ZSTD, compress(27)) == b"a"
    assert "too much memory" in refuses(ZSTD, compress(28))


def uvarint(number: int) -> bytes:
    """A number as snappy writes it."""
    coded = b""
    while number > 0x7F:
        coded, number = coded + bytes([number & 0x7F | 0x80]), number >> 7
    return coded + bytes([number])


# ── whether the codecs are there ──


def test_the_codecs_of_this_machine_work() -> None:
    decompression.probe()


@pytest.mark.parametrize(
    ("library", "codec"), [("cramjam", "snappy"), ("lz4_frame", "lz4"), ("zstd", "zstd"), ("zlib", "gzip")]
)
@pytest.mark.parametrize("there", [None, object()])
def test_a_missing_codec_is_named(library: str, codec: str, there: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, library, there)
    with pytest.raises(UnsupportedLibrary, match=rf"needs the codec {codec}, .*pip install"):
        decompression.probe()


def test_a_codec_that_gives_back_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "_inflate_block", lambda block, output: output.add(b"something else"))
    with pytest.raises(UnsupportedLibrary, match=r"codec snappy, .*does not restore what it compressed"):
        decompression.probe()


# ── the records of a batch ──

HEADERS = encoded_headers([("name", b"value")])


def body_of(count: int, size: int = 0) -> bytes:
    return encode([Message(0, f"key-{number}", b"v" * size) for number in range(count)], HEADERS)


def expected_of(count: int, size: int = 0) -> list[Record]:
    return [Record(3, 70 + number, 9, f"key-{number}", b"v" * size) for number in range(count)]


@pytest.mark.parametrize(("count", "size"), [(3, 5), (MAX_RECORDS_AT_ONCE + 1, 0), (600, 3_000)])
def test_a_batch_gives_its_records_from_anywhere(count: int, size: int) -> None:
    found, expected = records_in(body_of(count, size), count, 3, 70, 9, None), expected_of(count, size)
    assert len(found) == count
    for first in (0, 1, PAGE_RECORDS - 1, PAGE_RECORDS, PAGE_RECORDS + 1, count - 1, count, count + 5):
        for length in (0, 1, 2, PAGE_RECORDS, count):
            assert found[first : first + length] == expected[first : first + length]
    assert [found[0], found[-1], found[count - 1]] == [expected[0], expected[-1], expected[-1]]
    with pytest.raises(IndexError):
        found[count]


@pytest.mark.parametrize("count", [3, MAX_RECORDS_AT_ONCE + 1])
def test_a_body_that_is_not_as_many_records_is_unreadable(count: int) -> None:
    body = body_of(count)
    assert len(records_in(body, count, 3, 70, 9, None)) == count
    for bad, says in (
        (body[:-1], count), (body + b"\0", count), (body, count - 1), (body, count + 1), (body[1:], count),
        (b"\xff" * len(body), count), (b"\xff" * 100_000, 1), (b"", count),
    ):  # fmt: skip
        with pytest.raises(Unreadable):
            records_in(bad, says, 3, 70, 9, None)


def test_void_records_take_no_room_however_many_there_are() -> None:
    found = VoidRecords(3, 70, 2**31 - 1, 9, Mark.UNREADABLE)
    assert len(found) == 2**31 - 1
    assert found[5:7] == [Record(3, 75, 9, None, None, Mark.UNREADABLE), Record(3, 76, 9, None, None, Mark.UNREADABLE)]
    assert found[-1] == Record(3, 70 + 2**31 - 2, 9, None, None, Mark.UNREADABLE)
    assert found[2**31 - 1 :] == []

"""Inflating the compressed part of a record batch: the four codecs of Kafka, within a limit.

A batch of a megabyte may inflate to a gigabyte. So each codec gives its output piece by piece, and the limit is checked
before the next piece is asked for. The limit is a constant of the log's format, as every replica must find the same
batches readable: it is no setting, and an engine that lacks a codec does not open a Kafka log (`probe`).

What is accepted: gzip members, lz4 frames or zstd frames, one after another up to the end; snappy as one raw block, or
as blocks in the framing of xerial, which the Java client writes. Anything behind them is unreadable.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

from lastseen.engine.errors import UnsupportedLibrary

try:
    import cramjam
except ImportError:
    cramjam = None  # type: ignore[assignment]
try:
    import lz4.frame as lz4_frame
except ImportError:
    lz4_frame = None
if sys.version_info >= (3, 14):
    try:
        from compression import zstd
    except ImportError:  # a Python that was built without it
        zstd = None
else:
    try:
        from backports import zstd
    except ImportError:
        zstd = None  # type: ignore[assignment]

MAX_INFLATED_BYTES = 32 * 1024 * 1024
"""To how much a batch may inflate; every record of one that exceeds it is void. A constant of the log's format."""
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
"""Codecs, by their number in a batch's attributes."""
MAX_WINDOW_LOG = 27
"""The largest window of a zstd frame: that of its highest level, and what other clients read."""
PIECE_BYTES = 256 * 1024
_GZIP_OR_FAIL = 16 + zlib.MAX_WBITS
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


class Unreadable(Exception):
    """The data is not what its codec writes, or inflates beyond the limit."""


class _Output:
    """What has been inflated, never more than the limit and one piece."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = BytesIO()

    def add(self, piece: bytes | bytearray) -> None:
        self.claim(len(piece))
        self._buffer.write(piece)

    def claim(self, size: int) -> None:
        """Raise `Unreadable` where `size` more bytes exceed the limit."""
        if self._buffer.tell() + size > self._limit:
            raise Unreadable(f"it inflates to more than {self._limit} bytes")

    def taken(self) -> bytes:
        # `getvalue` hands out the buffer itself where it can, and copies nothing.
        return self._buffer.getvalue()


def inflate(codec: int, data: bytes, limit: int = MAX_INFLATED_BYTES) -> bytes:
    """The bytes that `data` was compressed from. Raises `Unreadable`, also beyond `limit` bytes."""
    if codec == NONE:
        return data
    if codec not in _INFLATERS:
        raise Unreadable(f"there is no codec {codec}")
    output = _Output(limit)
    try:
        _INFLATERS[codec][1](data, output)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # each library has its own
        raise Unreadable(f"{_INFLATERS[codec][0]}: {error}") from None
    return output.taken()


def _inflate_gzip(data: bytes, output: _Output) -> None:
    while True:
        inflater = zlib.decompressobj(_GZIP_OR_FAIL)
        rest = data
        while not inflater.eof:
            piece = inflater.decompress(rest, PIECE_BYTES)
            output.add(piece)
            rest = inflater.unconsumed_tail
            if not piece and not rest and not inflater.eof:
                raise Unreadable("gzip: the data ends too early")
        data = inflater.unused_data
        if not data:
            return


def _inflate_snappy(data: bytes, output: _Output) -> None:
    if not data.startswith(_XERIAL):
        _inflate_block(data, output)
        return
    if len(data) < _XERIAL_HEADER_BYTES:
        raise Unreadable("snappy: the data ends too early")
    index = _XERIAL_HEADER_BYTES
    while index < len(data):
        end = index + 4 + int.from_bytes(data[index : index + 4], "big")
        if index + 4 > len(data) or end > len(data):
            raise Unreadable("snappy: the data ends too early")
        _inflate_block(data[index + 4 : end], output)
        index = end


def _inflate_block(block: bytes, output: _Output) -> None:
    """A block declares its size; the decoder writes no further than that, and refuses a block of another size."""
    declared = cramjam.snappy.decompress_raw_len(block)
    output.claim(declared)
    inflated = bytearray(declared)
    written = cramjam.snappy.decompress_raw_into(block, inflated)
    if written != declared:
        raise Unreadable(f"snappy: a block of {written} bytes declares {declared}")
    output.add(inflated)


def _inflate_lz4(data: bytes, output: _Output) -> None:
    _inflate_frames(data, output, lz4_frame.LZ4FrameDecompressor)


def _inflate_zstd(data: bytes, output: _Output) -> None:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    _inflate_frames(data, output, lambda: zstd.ZstdDecompressor(options=options))


def _inflate_frames(data: bytes, output: _Output, open_frame: Callable[[], Any]) -> None:
    """Frames one after another, by a decompressor like those of Python's own library."""
    while True:
        frame = open_frame()
        rest = data
        while not frame.eof:
            piece = frame.decompress(rest, PIECE_BYTES)
            output.add(piece)
            rest = b""
            if not piece and not frame.eof:
                raise Unreadable("the data ends too early")
        data = frame.unused_data or b""
        if not data:
            return


_INFLATERS: dict[int, tuple[str, Callable[[bytes, _Output], None]]] = {
    GZIP: ("gzip", _inflate_gzip),
    SNAPPY: ("snappy", _inflate_snappy),
    LZ4: ("lz4", _inflate_lz4),
    ZSTD: ("zstd", _inflate_zstd),
}

_SAMPLE = b"lastseen " * 1_000
_DEFLATERS: dict[int, tuple[str, Callable[[], bytes]]] = {
    GZIP: ("zlib", lambda: zlib.compress(_SAMPLE, wbits=_GZIP_OR_FAIL)),
    SNAPPY: ("cramjam", lambda: bytes(cramjam.snappy.compress_raw(_SAMPLE))),
    LZ4: ("lz4", lambda: bytes(lz4_frame.compress(_SAMPLE))),
    ZSTD: ("backports.zstd", lambda: bytes(zstd.compress(_SAMPLE))),
}
"""For each codec, the package that it comes from, and a sample that it has compressed."""


def probe() -> None:
    """Raise `UnsupportedLibrary` where a codec is missing, or does not give back what it compressed."""
    for codec, (package, deflate) in _DEFLATERS.items():
        try:
            works = inflate(codec, deflate()) == _SAMPLE
        except Exception as error:  # a library that is absent, too old, or broken in its own way
            raise _missing(codec, package, repr(error)) from None
        if not works:
            raise _missing(codec, package, "it does not restore what it compressed")


def _missing(codec: int, package: str, reason: str) -> UnsupportedLibrary:
    return UnsupportedLibrary(
        f"a Kafka log needs the codec {_INFLATERS[codec][0]}, since any producer may compress with it, and it does not"
        f" work on this machine ({reason}): install it with: pip install --force-reinstall {package}"
    )

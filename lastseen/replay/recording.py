"""Recorded chat: the lines of a recording, one JSON object each, and the session key of the person in a line.

A recording is read strictly: a replay must be right to the last line, so the first line that is malformed, or that
goes back in time, is refused by its number.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec

from lastseen.engine.clock import iso_from_ms, ms_from_iso
from lastseen.engine.errors import InvalidEvent, InvalidInput, InvalidSetting, shown
from lastseen.engine.events import MAX_KEY_CHARACTERS

SLICE = Path(__file__).parent / "data" / "ubuntu-irc-slice.jsonl.gz"
"""26 days of real chat, which come with the package (`data/README.md` has the source)."""
Action = Literal["message", "join", "leave"]
MAX_LINE_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK_BYTES = 1024 * 1024
_LONG_PREFIX_CHARACTERS = 256
_HASHED = "%~"
"""Marks a key that was too long. Escaping puts two hexadecimal digits after every `%`, so it never writes this."""
_is_canonical = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z").fullmatch
_to_escape = re.compile("[%:\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class ChatEvent(NamedTuple):
    """What a person did in a channel."""

    line: int
    """Its line number in the recording; the first line is 1."""
    at_ms: int
    time: str
    """`at_ms` as RFC 3339, in UTC."""
    key: str
    """The session key of the person."""
    action: Action


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    at: str
    platform: Annotated[str, msgspec.Meta(min_length=1)]
    channel: Annotated[str, msgspec.Meta(min_length=1)]
    user: Annotated[str, msgspec.Meta(min_length=1)]
    action: Action
    size: Annotated[int, msgspec.Meta(ge=0)] = 0


_decode = msgspec.json.Decoder(_Line).decode


def session_key(platform: str, channel: str, user: str) -> str:
    """The key of a person's session in a channel: `irc:#ubuntu:ana`. Two people never share one.

    In each part `%`, `:` and characters that no key may hold are written as `%` and two hexadecimal digits for each
    byte of UTF-8. A key that is too long keeps its beginning and ends in `%~` and the SHA-256 of all of it."""
    key = ":".join(_to_escape.sub(_escaped, part) for part in (platform, channel, user))
    if len(key) <= MAX_KEY_CHARACTERS:
        return key
    return f"{key[:_LONG_PREFIX_CHARACTERS]}{_HASHED}{hashlib.sha256(key.encode('utf-8')).hexdigest()}"


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def sha256_of_recording(path: Path) -> str:
    """The SHA-256 of a recording's file as it is on the disk. Raises `InvalidSetting` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def count_lines(path: Path) -> int:
    """How many lines a recording has. Raises as `read_chat` does, but checks no line."""
    count, end = 0, b"\n"
    with _opened(path) as file:
        while block := file.read(_BLOCK_BYTES):
            count += block.count(b"\n")
            end = block[-1:]
    return count + (end != b"\n")


def read_chat(path: Path) -> Iterator[ChatEvent]:
    """The events of a recording, gzipped or plain, in their order.

    Raises `InvalidSetting` where the file cannot be read, and `InvalidEvent` for a line that is malformed or
    earlier than the line before it.
    """
    keys: dict[tuple[str, str, str], str] = {}
    last_ms = 0
    for number, text in _lines(path):
        line, at_ms = _parsed(path, number, text)
        if at_ms < last_ms:
            raise InvalidEvent(
                f"{path}, line {number}: its time {line.at} is before the line above; sort the recording by time"
            )
        last_ms = at_ms
        person = (line.platform, line.channel, line.user)
        key = keys.get(person)
        if key is None:
            key = keys[person] = session_key(*person)
        at = line.at if _is_canonical(line.at) else iso_from_ms(at_ms)
        yield ChatEvent(number, at_ms, at, key, line.action)


def _parsed(path: Path, number: int, text: bytes) -> tuple[_Line, int]:
    try:
        line = _decode(text)
        at_ms = ms_from_iso(line.at)
    except (msgspec.MsgspecError, InvalidInput, ValueError, RecursionError) as error:
        raise InvalidEvent(
            f"{path}, line {number}: {shown(text.decode('utf-8', 'replace'))} is not a chat event ({error}); give"
            " at, platform, channel, user, action (message, join or leave) and size"
        ) from error
    if at_ms < 0:
        raise InvalidEvent(f"{path}, line {number}: its time {line.at} is before 1970, where the log's time begins")
    return line, at_ms


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers. The last one may lack its line feed."""
    number = 0
    with _opened(path) as file:
        while text := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(text) > MAX_LINE_BYTES:
                raise InvalidEvent(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes, the limit")
            yield number, text


@contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    """The recording's bytes, unpacked. Turns failures while it is read into typed errors."""
    try:
        with path.open("rb") as file:
            if file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield unpacked
            else:
                yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidEvent(f"{path}: its gzip data is damaged ({error}); fetch the recording again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InvalidSetting:
    return InvalidSetting(f"recording {path} cannot be read: {error.strerror or error}; give a file of JSON lines")

"""What an export of lines is, in a small file beside it, so that the export itself holds rows and nothing else.

The sidecar of `history.jsonl` is `history.jsonl.meta.json`. It is written before the first row, without the number of
rows, and again after the last one, with it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from lastseen.engine.errors import ExportError
from lastseen.engine.log.private_file import make_private
from lastseen.exchange.table import Header, header_of, no_room

SUFFIX = ".meta.json"
_NO_JSON = (msgspec.DecodeError, ValueError, RecursionError)


class Sidecar(NamedTuple):
    """A sidecar as it was read."""

    header: Header
    rows: int | None
    """`None` while the export is not finished."""


def sidecar_of(path: Path) -> Path:
    """The name of an export's sidecar."""
    return path.with_name(f"{path.name}{SUFFIX}")


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar of the export at `path`; `None` where it has none. Raises `ExportError`."""
    place = sidecar_of(path)
    try:
        content = place.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ExportError(f"{place} cannot be read: {error.strerror}; correct its permissions") from None
    try:
        found = msgspec.json.decode(content)
        header, rows = header_of(place, found), found["rows"]
    except (*_NO_JSON, KeyError):
        raise ExportError(f"{place} is damaged: delete it with its export, and export again") from None
    return Sidecar(header, rows if type(rows) is int else None)


def write_sidecar(path: Path, header: Header, rows: int | None) -> None:
    """Replace the sidecar of the export at `path` in one step. Raises `ExportError`."""
    place = sidecar_of(path)
    written = place.with_name(f"{place.name}.writing")
    says: dict[str, Any] = {**header.as_dict(), "rows": rows, "columns": header.columns}
    try:
        make_private(written)
        with written.open("wb") as file:
            file.write(msgspec.json.encode(says) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(place)
    except OSError as error:
        with suppress(OSError):
            written.unlink(missing_ok=True)
        raise no_room(place, error) from None


def seal(path: Path, file: IO[Any], header: Header, rows: int) -> None:
    """Mark the export in an open file as complete, once all of it is on the disk. Raises `ExportError`."""
    try:
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise no_room(path, error) from None
    write_sidecar(path, header, rows)


def begin(path: Path, header: Header) -> Sidecar:
    """The sidecar of an export that begins at `path`, or has begun. Raises `ExportError` for another program's file."""
    found = read_sidecar(path)
    if found is not None:
        return found
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.readline()
    except OSError:
        size, first = 0, b""
    if size:
        raise not_ours(path, first)
    write_sidecar(path, header, None)
    return Sidecar(header, None)


def not_ours(path: Path, first_line: bytes) -> ExportError:
    """The error for a file without a sidecar; in the old format its first line says what it is."""
    if old_header(path, first_line) is not None:
        return ExportError(f"{path} is an export of an earlier version of lastseen: give another name, or delete it")
    return ExportError(
        f"{path} is not an export of lastseen, or its {sidecar_of(path).name} is missing: give a file that"
        " `lastseen export` has made, with that file beside it"
    )


def old_header(path: Path, first_line: bytes) -> Header | None:
    """The header that a file in the old format begins with; `None` for any other line. Raises `ExportError`."""
    try:
        found = msgspec.json.decode(first_line)
    except _NO_JSON:
        return None
    return header_of(path, found) if isinstance(found, dict) and "lastseen_export" in found else None

"""Exports as JSON Lines: a header, a row a line, and a last line with the number of rows.

A value that is UTF-8 text is written as text, any other as `{"base64": …}`.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from lastseen.engine.errors import ExportError
from lastseen.engine.log.private_file import make_private
from lastseen.exchange.table import COLUMNS, Header, Row, continued, header_of

BUFFER_BYTES = 1024 * 1024
LAST_LINE_BYTES = 64
"""More than the size of the last line."""
_NO_JSON = (msgspec.DecodeError, ValueError, RecursionError)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class JsonLinesWriter:
    """Writes one file, or continues after its last whole line."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self.header, self.rows, self.is_finished = header, 0, False
        try:
            make_private(path)
            self._file = path.open("r+b", buffering=BUFFER_BYTES)
        except OSError as error:
            raise ExportError(f"{path} cannot be written: {error.strerror}; give another path") from None
        try:
            self._continue(header)
        except BaseException:
            self._file.close()
            raise
        self._binary = [name for name, kind in COLUMNS[header.kind].items() if kind == "bytes"]

    def _continue(self, header: Header) -> None:
        """Read what is there, and cut off an incomplete line."""
        whole = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            if number == 0:
                self.header = continued(self._path, _header(self._path, line), header)
            elif _count_of(line) is not None:
                self.is_finished = True
            else:
                self.rows += 1
            whole += len(line)
        if not self.is_finished:
            self._file.seek(whole)
            self._file.truncate()
        if not whole:
            self._write(header.as_dict())

    def _write(self, value: Any) -> None:
        try:
            self._file.write(_encode(value) + b"\n")
        except OSError as error:
            raise ExportError(
                f"{self._path} cannot be written: {error.strerror}; free some space, and start again"
            ) from None

    def put(self, row: Row) -> None:
        """Write the next row (`table.Writer`)."""
        if self._binary:
            row = {**row, **{name: _text(row[name]) for name in self._binary}}
        self._write(row)
        self.rows += 1

    def finish(self) -> None:
        """Mark the export as complete (`table.Writer`)."""
        if not self.is_finished:
            self._write({"rows": self.rows})
            self.is_finished = True
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file (`table.Writer`)."""
        self._file.close()


class JsonLinesReader:
    """Reads one file, line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self.header = _header(path, file.readline())
            file.seek(max(path.stat().st_size - LAST_LINE_BYTES, 0))
            end = file.read()
        count = _count_of(end.rstrip(b"\n").rpartition(b"\n")[2]) if end.endswith(b"\n") else None
        if count is None:
            raise ExportError(f"{path} is incomplete: start the export again, it continues where it was interrupted")
        self.count = count

    def rows(self) -> Iterator[Row]:
        """The rows in order (`table.Reader`)."""
        columns = COLUMNS[self.header.kind]
        binary = [name for name, kind in columns.items() if kind == "bytes"]
        done = 0
        with self._path.open("rb") as file:
            next(file)
            for number, line in enumerate(file, start=2):
                if done == self.count:
                    break
                try:
                    row = _decode(line)
                    if row.keys() != columns.keys():
                        raise ValueError(f"its columns are {', '.join(row)}")
                    for name in binary:
                        row[name] = _bytes(row[name])
                except (*_NO_JSON, AttributeError, TypeError) as error:
                    raise ExportError(f"{self._path}, line {number} is damaged: {error}; export again") from None
                done += 1
                yield row
        if done != self.count:
            raise ExportError(f"{self._path} has {done} rows of {self.count}: export again")


def _header(path: Path, line: bytes) -> Header:
    try:
        return header_of(path, _decode(line))
    except _NO_JSON:
        raise ExportError(f"{path} is not an export of lastseen: give a file that `lastseen export` has made") from None


def _count_of(line: bytes) -> int | None:
    """The number of rows in the last line; `None` for any other line."""
    try:
        found = _decode(line)
    except _NO_JSON:
        return None
    is_last = isinstance(found, dict) and found.keys() == {"rows"} and isinstance(found["rows"], int)
    return int(found["rows"]) if is_last else None


def _text(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def _bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, str):
        return None if value is None else value.encode()
    try:
        return base64.b64decode(value["base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None

"""Exports as JSON Lines: a row a line and nothing else; what it is stands in the sidecar.

A value that is UTF-8 text is written as text, any other as `{"base64": …}`. Exports in the old format, which have a
header as their first line and the number of rows as their last, can be read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from lastseen.engine.errors import ExportError
from lastseen.engine.log.private_file import make_private
from lastseen.exchange.sidecar import begin, not_ours, old_header, read_sidecar, seal
from lastseen.exchange.table import Header, Row, continued, no_room

BUFFER_BYTES = 1024 * 1024
_NO_JSON = (msgspec.DecodeError, ValueError, RecursionError)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class JsonLinesWriter:
    """Writes one file, or continues after its last whole line."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        begun = begin(path, header)
        self.header = continued(path, begun.header, header)
        self.rows, self.is_finished = 0, False
        try:
            make_private(path)
            self._file = path.open("r+b", buffering=BUFFER_BYTES)
        except OSError as error:
            raise ExportError(f"{path} cannot be written: {error.strerror}; give another path") from None
        try:
            self._continue(begun.rows)
        except BaseException:
            self._file.close()
            raise
        self._binary = header.names_of("bytes")

    def _continue(self, finished_rows: int | None) -> None:
        """Count what is there, and cut off an incomplete line."""
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            self.rows += 1
            whole += len(line)
        self.is_finished = self.rows == finished_rows
        if not self.is_finished:
            self._file.seek(whole)
            self._file.truncate()

    def put(self, row: Row) -> None:
        """Write the next row (`table.Writer`)."""
        if self._binary:
            row = {**row, **{name: text_of(row[name]) for name in self._binary}}
        try:
            self._file.write(_encode(row) + b"\n")
        except OSError as error:
            raise no_room(self._path, error) from None
        self.rows += 1

    def finish(self) -> None:
        """Mark the export as complete (`table.Writer`)."""
        if self.is_finished:
            return
        seal(self._path, self._file, self.header, self.rows)
        self.is_finished = True

    def close(self) -> None:
        """Close the file (`table.Writer`)."""
        try:
            self._file.close()
        except OSError as error:
            raise no_room(self._path, error) from None


class JsonLinesReader:
    """Reads one file, line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first = 0
        """How many lines stand before the rows."""
        found = read_sidecar(path)
        if found is not None:
            self.header, count = found
            self._lines = _whole_lines(path)
            if count is None or self._lines < count:
                count = None
        else:
            self.header, count = self._old()
        if count is None:
            raise ExportError(f"{path} is incomplete: start the export again, it continues where it was interrupted")
        self.count = count
        if found is not None and self._lines > count:
            raise ExportError(f"{path} has {self._lines} rows, and {count} were written: export again")

    def _old(self) -> tuple[Header, int | None]:
        with self._path.open("rb") as file:
            first = file.readline()
            last = first
            for line in file:
                last = line
        header = old_header(self._path, first)
        if header is None:
            raise not_ours(self._path, first)
        self._first = 1
        return header, _count_of(last)

    def rows(self) -> Iterator[Row]:
        """The rows in order (`table.Reader`)."""
        columns, binary = self.header.columns, self.header.names_of("bytes")
        done = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number <= self._first:
                    continue
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


def _whole_lines(path: Path) -> int:
    count = 0
    with path.open("rb") as file:
        while block := file.read(BUFFER_BYTES):
            count += block.count(b"\n")
    return count


def _count_of(line: bytes) -> int | None:
    """The number of rows in the last line of the old format; `None` for any other line."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = _decode(line)
    except _NO_JSON:
        return None
    is_last = isinstance(found, dict) and found.keys() == {"rows"} and isinstance(found["rows"], int)
    return int(found["rows"]) if is_last else None


def text_of(value: bytes | None) -> Any:
    """A value as JSON: text where it is UTF-8."""
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

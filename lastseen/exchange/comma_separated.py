"""Exports as CSV, for databases and spreadsheets: a line with the names, then the rows.

JSON values and values that are no UTF-8 text are written as JSON. A missing value is an empty field, as is empty text,
so such a file cannot be imported. An export that was interrupted starts again, since a field may hold line breaks.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec

from lastseen.engine.errors import ExportError
from lastseen.engine.log.private_file import make_private
from lastseen.exchange.json_lines import BUFFER_BYTES, text_of
from lastseen.exchange.sidecar import begin, seal, write_sidecar
from lastseen.exchange.table import Header, Row, continued, no_room

_encode = msgspec.json.Encoder().encode


class CsvWriter:
    """Writes one file; a finished one is left as it is."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        begun = begin(path, header)
        continued(path, begun.header, header)
        self.is_finished = begun.rows is not None and path.exists()
        self.rows = begun.rows if self.is_finished and begun.rows is not None else 0
        self.header = begun.header if self.is_finished else header
        try:
            make_private(path)
            mode = "a" if self.is_finished else "w"
            self._file = path.open(mode, buffering=BUFFER_BYTES, encoding="utf-8", newline="")
        except OSError as error:
            raise ExportError(f"{path} cannot be written: {error.strerror}; give another path") from None
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._columns = [(name, header.columns[name]) for name in header.columns]
        if not self.is_finished:
            write_sidecar(path, header, None)
            self._write([name for name, _ in self._columns])

    def _write(self, fields: list[Any]) -> None:
        try:
            self._writer.writerow(fields)
        except OSError as error:
            raise no_room(self._path, error) from None

    def put(self, row: Row) -> None:
        """Write the next row (`table.Writer`)."""
        fields = []
        for name, kind in self._columns:
            value = text_of(row[name]) if kind == "bytes" else row[name]
            is_json = kind == "json" or isinstance(value, dict)
            fields.append(_encode(value).decode() if is_json else value)
        self._write(fields)
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

"""Exports as Parquet: a folder of parts, each a complete file, which pandas, DuckDB and Spark read as one table.

A part is written under another name and renamed, so a crash leaves complete parts only. The last part, which may be
empty, is marked as the last. JSON values are written as text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from lastseen.engine.errors import ExportError, InvalidSetting
from lastseen.engine.log.private_file import make_private
from lastseen.exchange.table import COLUMNS, Header, Kind, Row, continued, header_of

try:
    import pyarrow
    from pyarrow import parquet
except ImportError:
    raise InvalidSetting("Parquet needs pyarrow: pip install 'lastseen[parquet]', or write .jsonl") from None

PART_ROWS = 50_000
READ_ROWS = 5_000
_HEADER, _LAST = b"lastseen", b"lastseen.rows"
_encode = msgspec.json.Encoder().encode
_types = {"int": pyarrow.int64(), "text": pyarrow.string(), "bytes": pyarrow.binary(), "json": pyarrow.string()}


class ParquetWriter:
    """Writes a folder of parts, or continues after its last one."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self.header, self.rows, self.is_finished = header, 0, False
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise ExportError(f"{path} cannot be written: {error.strerror}; give another path") from None
        self._parts = 0
        for part in _parts(path):
            begun, self.is_finished, rows = _part(part)
            self.header = continued(path, begun, header)
            self.rows += rows
            self._parts += 1
        self._buffered: list[Row] = []
        self._json = [name for name, kind in COLUMNS[header.kind].items() if kind == "json"]

    def put(self, row: Row) -> None:
        """Write the next row (`table.Writer`); it reaches a file with the rest of its part."""
        self._buffered.append({**row, **{name: _encode(row[name]).decode() for name in self._json}})
        self.rows += 1
        if len(self._buffered) == PART_ROWS:
            self._write(is_last=False)

    def _write(self, *, is_last: bool) -> None:
        metadata = {_HEADER: _encode(self.header.as_dict())} | ({_LAST: b"%d" % self.rows} if is_last else {})
        table = pyarrow.Table.from_pylist(self._buffered, schema=_schema(self.header.kind).with_metadata(metadata))
        file_path = self._path / f"part-{self._parts:06}.parquet"
        written = file_path.with_suffix(".writing")
        make_private(written)
        try:
            parquet.write_table(table, written, compression="zstd")
            with written.open("rb") as file:
                os.fsync(file.fileno())
            written.replace(file_path)
        except OSError as error:
            raise ExportError(f"{file_path} cannot be written: {error}; free some space, and start again") from None
        self._parts += 1
        self._buffered = []

    def finish(self) -> None:
        """Mark the export as complete (`table.Writer`)."""
        if not self.is_finished:
            self._write(is_last=True)
            self.is_finished = True

    def close(self) -> None:
        """Drop the rows of an unfinished part (`table.Writer`): the run that continues the export writes them again."""
        self._buffered = []


class ParquetReader:
    """Reads a folder of parts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        parts = _parts(path)
        if not parts:
            raise ExportError(f"{path} is not an export of lastseen: give a folder that `lastseen export` has made")
        found = [_part(part) for part in parts]
        self.header = found[0][0]
        if not found[-1][1] or any(each[0] != self.header for each in found):
            raise ExportError(f"{path} is incomplete: start the export again, it continues where it was interrupted")
        self.count = sum(rows for _, _, rows in found)
        expected = int(parquet.read_schema(parts[-1]).metadata[_LAST])
        if self.count != expected:
            raise ExportError(f"{path} has {self.count} rows of {expected}: a part is missing; export again")

    def rows(self) -> Iterator[Row]:
        """The rows in order (`table.Reader`)."""
        json = [name for name, kind in COLUMNS[self.header.kind].items() if kind == "json"]
        for part in _parts(self._path):
            try:
                with parquet.ParquetFile(part) as file:
                    for batch in file.iter_batches(READ_ROWS):
                        for row in batch.to_pylist():
                            yield {**row, **{name: msgspec.json.decode(row[name]) for name in json}}
            except (pyarrow.ArrowException, OSError, msgspec.DecodeError, ValueError, RecursionError) as error:
                raise ExportError(f"{part} is damaged: {error}; export again") from None


def _parts(path: Path) -> list[Path]:
    return sorted(path.glob("part-*.parquet"))


def _part(part: Path) -> tuple[Header, bool, int]:
    """A part's header, whether it is the last, and its rows."""
    try:
        metadata: Any = parquet.read_metadata(part)
        header = header_of(part, msgspec.json.decode(metadata.metadata[_HEADER]))
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, msgspec.DecodeError, ValueError) as error:
        raise ExportError(f"{part} is not an export of lastseen, or is damaged: {error}; export again") from None
    if not parquet.read_schema(part).equals(_schema(header.kind)):
        raise ExportError(f"{part} does not have the columns of an export of {header.kind}: export again")
    return header, _LAST in metadata.metadata, metadata.num_rows


def _schema(kind: Kind) -> Any:
    return pyarrow.schema([(name, _types[each]) for name, each in COLUMNS[kind].items()])

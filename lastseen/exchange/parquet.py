"""Exports as Parquet: a folder of parts, each a complete file, which pandas, DuckDB and Spark read as one table.

A part is written under another name and renamed, so a crash leaves complete parts only. The last part, which may be
empty, is marked as the last. What the export is stands in the metadata of each part. JSON values are written as text,
times as timestamps in UTC: `at_ms` is the column `at`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from lastseen.engine.errors import ExportError, InvalidSetting
from lastseen.engine.log.private_file import make_private
from lastseen.exchange.table import Header, Row, continued, header_of, no_room

try:
    import pyarrow
    from pyarrow import parquet
except ImportError:
    raise InvalidSetting("Parquet needs pyarrow: pip install 'lastseen[parquet]', or write .jsonl") from None

PART_ROWS = 50_000
READ_ROWS = 5_000
_HEADER, _LAST = b"lastseen", b"lastseen.rows"
_encode = msgspec.json.Encoder().encode
_types = {
    "int": pyarrow.int64(), "time": pyarrow.timestamp("ms", tz="UTC"), "text": pyarrow.string(),
    "name": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), "bytes": pyarrow.binary(), "json": pyarrow.string(),
}  # fmt: skip


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
        self._json = header.names_of("json")
        self._times = header.names_of("time")

    def put(self, row: Row) -> None:
        """Write the next row (`table.Writer`); it reaches a file with the rest of its part."""
        changed = {name: _encode(row[name]).decode() for name in self._json}
        changed |= {_column(name): row[name] for name in self._times}
        self._buffered.append({**row, **changed})
        self.rows += 1
        if len(self._buffered) == PART_ROWS:
            self._write(is_last=False)

    def _write(self, *, is_last: bool) -> None:
        metadata = {_HEADER: _encode(self.header.as_dict())} | ({_LAST: b"%d" % self.rows} if is_last else {})
        table = pyarrow.Table.from_pylist(self._buffered, schema=_schema(self.header).with_metadata(metadata))
        file_path = self._path / f"part-{self._parts:06}.parquet"
        written = file_path.with_suffix(".writing")
        try:
            make_private(written)
            parquet.write_table(table, written, compression="zstd")
            with written.open("rb") as file:
                os.fsync(file.fileno())
            written.replace(file_path)
        except OSError as error:
            with suppress(OSError):
                written.unlink(missing_ok=True)
            raise no_room(file_path, error) from None
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
        json, times = self.header.names_of("json"), self.header.names_of("time")
        for part in _parts(self._path):
            try:
                with parquet.ParquetFile(part) as file:
                    for batch in file.iter_batches(READ_ROWS):
                        for row in _as_integers(batch, times).to_pylist():
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
    if not parquet.read_schema(part).equals(_schema(header)):
        raise ExportError(f"{part} does not have the columns of an export of {header.kind}: export again")
    return header, _LAST in metadata.metadata, metadata.num_rows


def _as_integers(batch: Any, times: list[str]) -> Any:
    """The batch with times as in all other formats: a timestamp may be outside of what Python can show."""
    for name in times:
        at = batch.schema.get_field_index(_column(name))
        batch = batch.set_column(at, name, batch.column(at).cast(pyarrow.int64()))
    return batch


def _column(name: str) -> str:
    return name.removesuffix("_ms")


def _schema(header: Header) -> Any:
    return pyarrow.schema(
        [(_column(name) if kind == "time" else name, _types[kind]) for name, kind in header.columns.items()]
    )

"""The format of an export, chosen by its file name: JSON Lines, CSV or Parquet."""

from __future__ import annotations

import shutil
from pathlib import Path

from lastseen.engine.errors import ExportError, InvalidSetting
from lastseen.exchange.sidecar import sidecar_of
from lastseen.exchange.table import Header, Reader, Writer


def writer(path: Path, header: Header) -> Writer:
    """Begin an export, or continue an interrupted one of the same log. Raises `ExportError`, `InvalidSetting`."""
    if path.suffix == ".jsonl":
        from lastseen.exchange.json_lines import JsonLinesWriter

        return JsonLinesWriter(path, header)
    if path.suffix == ".csv":
        from lastseen.exchange.comma_separated import CsvWriter

        return CsvWriter(path, header)
    if path.suffix == ".parquet":
        from lastseen.exchange.parquet import ParquetWriter

        return ParquetWriter(path, header)
    raise InvalidSetting(f"{path}: give a name that ends in .jsonl, .csv or .parquet, which chooses the format")


def remove(path: Path) -> None:
    """Delete an export with what belongs to it. Raises `ExportError`."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
            sidecar_of(path).unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"{path} cannot be replaced: {error.strerror}; give another name") from None


def reader(path: Path) -> Reader:
    """Read an export. Raises `ExportError`, `InvalidSetting`."""
    if not path.exists():
        raise InvalidSetting(f"there is no file {path}: name an export")
    if path.suffix == ".jsonl":
        from lastseen.exchange.json_lines import JsonLinesReader

        return JsonLinesReader(path)
    if path.suffix == ".parquet":
        from lastseen.exchange.parquet import ParquetReader

        return ParquetReader(path)
    raise InvalidSetting(f"{path}: give a name that ends in .jsonl or .parquet; CSV cannot be imported")

"""The format of an export, chosen by its file name: JSON Lines or Parquet."""

from __future__ import annotations

from pathlib import Path

from lastseen.engine.errors import InvalidSetting
from lastseen.exchange.table import Header, Reader, Writer


def writer(path: Path, header: Header) -> Writer:
    """Begin an export, or continue an interrupted one of the same log. Raises `ExportError`, `InvalidSetting`."""
    if path.suffix == ".jsonl":
        from lastseen.exchange.json_lines import JsonLinesWriter

        return JsonLinesWriter(path, header)
    if path.suffix == ".parquet":
        from lastseen.exchange.parquet import ParquetWriter

        return ParquetWriter(path, header)
    raise _unknown(path)


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
    raise _unknown(path)


def _unknown(path: Path) -> InvalidSetting:
    return InvalidSetting(f"{path}: give a name that ends in .jsonl or .parquet, which chooses the format")

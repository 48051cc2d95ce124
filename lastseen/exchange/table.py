"""An export's header and columns, and the interfaces for writing, continuing and reading one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from lastseen.engine.errors import ExportError

FORMAT = 2
OLD_FORMAT = 1
"""Its JSON Lines have header and count as their first and last lines, and its Parquet has integers for times."""
Kind = Literal["history", "sessions", "lives"]
Type = Literal["int", "time", "text", "name", "bytes", "json"]
COLUMNS: dict[Kind, dict[str, Type]] = {
    "history": {
        "partition": "int", "offset": "int", "timestamp_ms": "time", "at_ms": "time", "key": "text", "verdict": "name",
        "type": "name", "session_id": "text", "event_id": "text", "source": "name", "value": "bytes",
        "ended_session_id": "text", "ended_at_ms": "time", "ended_reason": "name", "ended_owner": "text",
    },
    "sessions": {
        "partition": "int", "born_offset": "int", "key": "text", "session_id": "text", "status": "name",
        "version": "int", "owner": "text", "created_at_ms": "time", "last_active_at_ms": "time", "last_offset": "int",
        "suspended_at_ms": "time", "parked_ms": "int", "deadline_ms": "time", "deadline_reason": "name",
        "policy": "json", "holders": "json", "attributes": "json", "messages": "json",
    },
    "lives": {
        "partition": "int", "born_offset": "int", "key": "text", "session_id": "text", "owner": "text",
        "began_at_ms": "time", "began_by": "name", "last_active_at_ms": "time", "ended_at_ms": "time",
        "ended_offset": "int", "ended_by": "name", "reason": "name", "duration_ms": "int", "events": "int",
        "messages": "int", "policy": "json",
    },
}  # fmt: skip
"""Times are log times in ms; `timestamp_ms` is the log's own time of a record, `at_ms` the time that counts.

`ended_…` is the session that a record ended, or found to be past its limit, which may be another than its own.
"""
_LATER = frozenset({"ended_session_id", "ended_at_ms", "ended_reason", "ended_owner"})
"""Columns that histories in the old format do not have."""
_OLD_TYPES: dict[Type, Type] = {"time": "int", "name": "text"}
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    """Which log an export is from, and how far."""

    kind: Kind
    log: str
    """The log's identity."""
    ends: tuple[int, ...]
    """The end of each partition when the export began."""
    form: int = FORMAT

    @property
    def columns(self) -> dict[str, Type]:
        """The columns of its rows, in order."""
        columns = COLUMNS[self.kind]
        if self.form == FORMAT:
            return columns
        return {name: _OLD_TYPES.get(each, each) for name, each in columns.items() if name not in _LATER}

    def names_of(self, wanted: Type) -> list[str]:
        """The columns of a type."""
        return [name for name, each in self.columns.items() if each == wanted]

    def as_dict(self) -> dict[str, Any]:
        """The header as plain JSON values."""
        return {"lastseen_export": self.kind, "format": self.form, "log": self.log, "ends": list(self.ends)}


def header_of(path: Path, found: Any) -> Header:
    """The header of a file. Raises `ExportError`."""
    try:
        kind, form = found["lastseen_export"], found["format"]
        if kind in COLUMNS and form in (FORMAT, OLD_FORMAT):
            return Header(kind, str(found["log"]), tuple(map(int, found["ends"])), form)
    except (TypeError, KeyError, ValueError, OverflowError):
        raise ExportError(f"{path} is not an export of lastseen: give a file that `lastseen export` has made") from None
    raise ExportError(
        f"{path} is an export of {kind} in format {form}, which this version cannot read: use a newer version"
    )


class Writer(Protocol):
    """An export in progress."""

    header: Header
    """As it is in the file: that of the run that began it."""
    rows: int
    """Rows that are written already: the next `put` is the row after them."""
    is_finished: bool
    """Whether an earlier run has completed it."""

    def put(self, row: Row) -> None:
        """Write the next row. Raises `ExportError`."""
        ...

    def finish(self) -> None:
        """Mark the export as complete, and sync it to the disk. Raises `ExportError`."""
        ...

    def close(self) -> None:
        """Close the file; written rows are kept, and an unfinished export can be continued. Raises `ExportError`."""
        ...


class Reader(Protocol):
    """A finished export."""

    header: Header
    count: int
    """How many rows it has."""

    def rows(self) -> Iterator[Row]:
        """The rows in order. Raises `ExportError` where they are damaged."""
        ...


def continued(path: Path, begun: Header, wanted: Header) -> Header:
    """The header of a file that is continued. Raises `ExportError` where it is another export's."""
    if begun.form != FORMAT:
        raise ExportError(f"{path} is an export of an earlier version of lastseen: give another name, or delete it")
    if (begun.kind, begun.log) != (wanted.kind, wanted.log):
        raise ExportError(f"{path} is an export of {begun.kind} of log {begun.log}: give another name, or delete it")
    if len(begun.ends) != len(wanted.ends) or any(a > b for a, b in zip(begun.ends, wanted.ends, strict=True)):
        raise ExportError(f"{path} holds more of this log than the log holds itself: give another name, or delete it")
    return begun


def no_room(path: Path, error: OSError) -> ExportError:
    """The error for a file that cannot be written."""
    return ExportError(f"{path} cannot be written: {error.strerror or error}; free some space, and start again")

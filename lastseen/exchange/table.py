"""An export's header and columns, and the interfaces for writing, continuing and reading one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from lastseen.engine.errors import ExportError

FORMAT = 1
Kind = Literal["history", "sessions"]
Type = Literal["int", "text", "bytes", "json"]
COLUMNS: dict[Kind, dict[str, Type]] = {
    "history": {
        "partition": "int", "offset": "int", "timestamp_ms": "int", "at_ms": "int", "key": "text", "verdict": "text",
        "type": "text", "session_id": "text", "event_id": "text", "source": "text", "value": "bytes",
    },
    "sessions": {
        "partition": "int", "born_offset": "int", "key": "text", "session_id": "text", "status": "text",
        "version": "int", "owner": "text", "created_at_ms": "int", "last_active_at_ms": "int", "last_offset": "int",
        "suspended_at_ms": "int", "parked_ms": "int", "deadline_ms": "int", "deadline_reason": "text",
        "policy": "json", "holders": "json", "attributes": "json", "messages": "json",
    },
}  # fmt: skip
"""Times are log times in ms; `timestamp_ms` is the log's own time of a record, `at_ms` the time that counts."""
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    """Which log an export is from, and how far."""

    kind: Kind
    log: str
    """The log's identity."""
    ends: tuple[int, ...]
    """The end of each partition when the export began."""

    def as_dict(self) -> dict[str, Any]:
        """The header as plain JSON values."""
        return {"lastseen_export": self.kind, "format": FORMAT, "log": self.log, "ends": list(self.ends)}


def header_of(path: Path, found: Any) -> Header:
    """The header that a file begins with. Raises `ExportError`."""
    try:
        kind, form = found["lastseen_export"], found["format"]
        if kind in COLUMNS and form == FORMAT:
            return Header(kind, str(found["log"]), tuple(map(int, found["ends"])))
    except (TypeError, KeyError, ValueError):
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
        """Write the next row."""
        ...

    def finish(self) -> None:
        """Mark the export as complete, and sync it to the disk."""
        ...

    def close(self) -> None:
        """Close the file; written rows are kept, and an unfinished export can be continued."""
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
    if (begun.kind, begun.log) != (wanted.kind, wanted.log):
        raise ExportError(f"{path} is an export of {begun.kind} of log {begun.log}: give another name, or delete it")
    if len(begun.ends) != len(wanted.ends) or any(a > b for a, b in zip(begun.ends, wanted.ends, strict=True)):
        raise ExportError(f"{path} holds more of this log than the log holds itself: give another name, or delete it")
    return begun

"""What the doctor looks at, and what it finds."""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from lastseen.engine.log.port import Record


class Severity(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Nothing is wrong; it may not be what was intended."""
    WARNING = "warning"
    """It works, but will not permanently, or not as well as it could."""
    ERROR = "error"
    """It does not work, or something would be lost."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    severity: Severity
    says: str
    next_step: str = ""
    """What to do; empty where there is nothing to be done."""


class ReadOnlyLog(Protocol):
    """A log that is only read."""

    @property
    def identity(self) -> str:
        """Names this very log."""
        ...

    @property
    def starts(self) -> list[int]:
        """For each partition the first offset that the log still has, when the log was opened."""
        ...

    @property
    def ends(self) -> list[int]:
        """For each partition the offset of its next record, when the log was opened."""
        ...

    def read(self, partition: int, from_offset: int, limit: int) -> list[Record]:
        """Records from an offset on. Raises `LogError`."""
        ...


class Subject(NamedTuple):
    """What is to be looked at."""

    url: str
    snapshot: str | None = None
    """Where the snapshot is, if not where the log says."""
    max_body_bytes: int = 0
    max_memory_bytes: int | None = None
    token_file: str | None = None
    address: str | None = None
    """Where the service answers, if it runs: `http://127.0.0.1:8321`."""
    max_sessions: int | None = None


def ok(check: str, says: str) -> Finding:
    """Nothing is to be done."""
    return Finding(check, Severity.OK, says)


def note(check: str, says: str, next_step: str) -> Finding:
    """Something to know."""
    return Finding(check, Severity.NOTE, says, next_step)


def warning(check: str, says: str, next_step: str) -> Finding:
    """Something to see to, in time."""
    return Finding(check, Severity.WARNING, says, next_step)


def error(check: str, says: str, next_step: str) -> Finding:
    """Something to see to now."""
    return Finding(check, Severity.ERROR, says, next_step)


class LogFiles(NamedTuple):
    """The files that belong to a log on this machine."""

    log: str | None
    snapshot: str | None

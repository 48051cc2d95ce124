"""The doctor: looks at a log, its snapshot and the machine, and says of each thing how it stands and what to do next.

It only reads. It opens no engine, makes no file, joins no group and asks for no producer, so that it may be used beside
a service that runs, and on one that cannot start.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from engine.errors import LastseenError
from engine.log.port import Record


class Severity(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Nothing is wrong; somebody may have meant it otherwise."""
    WARNING = "warning"
    """It works, and will not for ever, or not as well as it could."""
    ERROR = "error"
    """It does not work, or something would be lost."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    severity: Severity
    says: str
    next_step: str = ""
    """What to do; empty where there is nothing to be done."""


class LogSeen(Protocol):
    """A log, as somebody sees it who only reads."""

    @property
    def identity(self) -> str:
        """Names this very log."""
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


def examine(subject: Subject, now_ms: int) -> Iterator[Finding]:
    """Look at everything, and tell it as it is found. Raises `InvalidSetting` for a URL that names no log."""
    from lastseen.doctor_clocks import clocks
    from lastseen.doctor_machine import disk, memory, service, tokens
    from lastseen.doctor_snapshot import Place, snapshot

    opened, places = _log_of(subject)
    try:
        with opened() as (log, findings):
            yield from findings
            yield from clocks(log, now_ms)
            if places.snapshot is None:
                yield _unkept(subject, log)
            else:
                yield from snapshot(log, Place(places.snapshot), now_ms)
    except LastseenError as failure:
        yield error("log", str(failure), "see what the message says; until then no service can start on this log")
    yield from disk(places)
    yield from memory(subject)
    yield from tokens(subject)
    yield from service(subject)


class Places(NamedTuple):
    """The files that belong to a log on this machine."""

    log: str | None
    snapshot: str | None


Opened = Callable[[], AbstractContextManager[tuple[LogSeen, Sequence[Finding]]]]


def _log_of(subject: Subject) -> tuple[Opened, Places]:
    """How the log is opened for reading, and where its files are."""
    if subject.url.startswith("kafka:"):
        from engine.log.kafka_place import place_of
        from lastseen.doctor_kafka import topic_seen

        place = place_of(subject.url)
        at = None if subject.snapshot in (None, ":memory:") else subject.snapshot
        return lambda: topic_seen(place), Places(None, at)
    from lastseen.doctor_file import file_seen
    from lastseen.reader import log_path, snapshot_path

    path = log_path(subject.url)
    beside = None if subject.snapshot == ":memory:" else subject.snapshot or str(snapshot_path(path))
    return lambda: file_seen(path), Places(str(path), beside)


def _unkept(subject: Subject, log: LogSeen) -> Finding:
    return warning(
        "snapshot", f"it is in memory only, so each start reads all of the log: {sum(log.ends):,} records",
        "name a file for it: snapshot = … in the configuration, or LASTSEEN_SNAPSHOT",
    )  # fmt: skip

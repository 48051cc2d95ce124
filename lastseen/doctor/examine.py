"""The doctor: looks at a log, its snapshot and the machine, and says of each thing how it stands and what to do next.

It only reads. It opens no engine, leaves no file behind, joins no group and asks for no producer, so that it may be
used beside a service that runs, and on one that cannot start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from lastseen.doctor.capacity import capacity
from lastseen.doctor.clocks import clocks
from lastseen.doctor.findings import Finding, LogFiles, ReadOnlyLog, Subject, error, note, warning
from lastseen.doctor.genesis import genesis
from lastseen.doctor.machine import access, disk, memory, service, tokens
from lastseen.doctor.producers import producer_findings
from lastseen.doctor.snapshot import SnapshotFiles, snapshot
from lastseen.embedded.settings import IN_MEMORY_NAMES
from lastseen.engine.errors import LastseenError, LogError

Opened = Callable[[], AbstractContextManager[tuple[ReadOnlyLog, Sequence[Finding]]]]


def examine(subject: Subject, now_ms: int) -> Iterator[Finding]:
    """Look at everything, and tell it as it is found. Raises `InvalidSetting` for a URL that names no log."""
    opened, files = _log_of(subject)
    try:
        with opened() as (log, findings):
            yield from findings
            yield from _reading("genesis", genesis(log, is_file=files.log is not None))
            yield from _reading("clocks", clocks(log, now_ms))
            yield from _reading("records", producer_findings(log, now_ms))
            if files.snapshot is None and subject.snapshot is None:
                files = files._replace(snapshot=_left_in_state_folder(log))
            if files.snapshot is None:
                yield _no_snapshot(subject, log)
            else:
                yield from _reading("snapshot", snapshot(log, SnapshotFiles(files.snapshot), now_ms))
            yield from capacity(files.snapshot, subject.max_sessions)
    except LastseenError as failure:
        yield error("log", str(failure), "follow the message; until then no service can start on this log")
    yield from disk(files)
    yield from access(files)
    yield from memory(subject)
    yield from tokens(subject)
    yield from service(subject)


@contextmanager
def opened_log(url: str) -> Iterator[ReadOnlyLog]:
    """The log at a URL, only to be read. Raises `InvalidSetting`, `LogError`."""
    opened, _ = _log_of(Subject(url))
    with opened() as (log, _):
        yield log


def _reading(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of a check that reads the log. A log that cannot be read is one more: the other checks go on."""
    try:
        yield from findings
    except LogError as failure:
        yield error(check, f"not examined: {failure}", "follow the message, and run this again")


def _log_of(subject: Subject) -> tuple[Opened, LogFiles]:
    """How the log is opened for reading, and where its files are."""
    if subject.url.startswith("kafka:"):
        from lastseen.doctor.kafka_log import opened_topic
        from lastseen.engine.log.kafka.url import parse_kafka_url

        kafka_url = parse_kafka_url(subject.url)
        at = None if subject.snapshot in (None, *IN_MEMORY_NAMES) else subject.snapshot
        return lambda: opened_topic(kafka_url), LogFiles(None, at)
    from lastseen.doctor.sqlite_log import opened_file
    from lastseen.embedded.offline import log_path, snapshot_path

    path = log_path(subject.url)
    beside = None if subject.snapshot in IN_MEMORY_NAMES else subject.snapshot or str(snapshot_path(path))
    return lambda: opened_file(path), LogFiles(str(path), beside)


def _left_in_state_folder(log: ReadOnlyLog) -> str | None:
    from lastseen.embedded.state_folder import left_snapshots

    left = left_snapshots(log.identity)
    return str(left[0]) if left else None


def _no_snapshot(subject: Subject, log: ReadOnlyLog) -> Finding:
    if subject.snapshot is None:
        from lastseen.embedded.state_folder import folder_of

        try:
            folder = f"in {folder_of(log.identity)}"
        except OSError as failure:
            return warning(
                "snapshot",
                f"there is no folder for it ({failure}), so it is in memory, and each start reads all of the log:"
                f" {sum(log.ends):,} records",
                "name a file for it: snapshot = … in the configuration, or LASTSEEN_SNAPSHOT",
            )
        return note(
            "snapshot",
            f"no engine of this account has left one {folder}: the next start reads all of the log,"
            f" {sum(log.ends):,} records",
            "nothing before its first start on this machine; else compare STATE_DIRECTORY, XDG_STATE_HOME and HOME in"
            " its environment",
        )
    return warning(
        "snapshot", f"it is in memory only, so each start reads all of the log: {sum(log.ends):,} records",
        "name a file for it: snapshot = … in the configuration, or LASTSEEN_SNAPSHOT",
    )  # fmt: skip

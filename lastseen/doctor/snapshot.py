"""A snapshot and the history beside it: whether they are whole, of this log, and how far they are behind it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from lastseen.doctor.findings import Finding, ReadOnlyLog, error, note, ok, warning
from lastseen.engine.errors import LogError
from lastseen.engine.log.read_only import ReadOnlyFile, is_locked
from lastseen.projections.archive import archives_of, is_sound
from lastseen.projections.partition import Partition
from lastseen.projections.snapshot_rows import Damaged, PartitionRow, decode_partition, unsealed

MAX_FOLDED = 50_000
"""Records that are folded to compare digests: a few seconds' worth. More is the business of `lastseen verify`."""
PAGE_RECORDS = 2_000
FAR_BEHIND = 1_000_000
"""Records that a start takes half a minute to fold."""


class SnapshotFiles(NamedTuple):
    """Where a snapshot is."""

    path: str

    @property
    def history(self) -> str:
        """Where the history beside it is."""
        return f"{self.path.removesuffix('.snapshot')}.history"


def snapshot(log: ReadOnlyLog, files: SnapshotFiles, now_ms: int) -> Iterator[Finding]:
    """What is to be said of a snapshot."""
    path = Path(files.path)
    if not path.is_file() and any(log.starts):
        yield error(
            "snapshot", f"there is none at {path}, and the log has lost its beginning: no engine starts on it",
            "restore a snapshot that was taken after the records were deleted, or begin with a new log",
        )  # fmt: skip
        return
    if not path.is_file():
        yield note(
            "snapshot", f"there is none at {path}: the next start reads all of the log, {sum(log.ends):,} records",
            "if a service has run on this log, check that it can write there",
        )  # fmt: skip
        return
    try:
        meta, stored = _read(path)
    except (sqlite3.Error, Damaged, msgspec.MsgspecError, OSError) as failure:
        step = _damaged_step(path)
        if is_locked(failure):
            step = "find out which process holds the lock, and run this again"
        yield warning("snapshot", f"{path} cannot be read: {failure}", step)
        return
    if meta.get("identity") != log.identity or meta.get("partitions") != len(log.ends):
        yield error(
            "snapshot", f"{path} was taken of log {meta.get('identity')}, and this is log {log.identity}",
            "give the log of the snapshot, or another snapshot path; no engine starts with both",
        )  # fmt: skip
        return
    yield _position(log, path, stored, now_ms)
    yield _digests(log, stored)
    yield _history(Path(files.history), stored)
    yield from _archives(path)


def _read(path: Path) -> tuple[dict[str, object], dict[int, PartitionRow]]:
    def read(connection: sqlite3.Connection) -> tuple[dict[str, object], list[tuple[int, bytes]], str]:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        rows = connection.execute("SELECT number, state FROM partitions").fetchall()
        return meta, rows, connection.execute("PRAGMA quick_check(1)").fetchone()[0]

    with ReadOnlyFile(path) as file:
        meta, rows, says = file.read(read)
    if says != "ok":
        raise Damaged(" ".join(str(says).split()))
    return meta, {number: decode_partition(unsealed(state)) for number, state in rows}


def _damaged_step(path: Path) -> str:
    if any(is_sound(archive) for archive in archives_of(str(path))):
        return "nothing is lost: the next start renames it, loads the newest archive, and continues from the log"
    return "nothing is lost: the next start renames it and reads all of the log, since there is no sound archive"


def _position(log: ReadOnlyLog, path: Path, stored: Mapping[int, PartitionRow], now_ms: int) -> Finding:
    behind = 0
    for number, end in enumerate(log.ends):
        reached = stored[number].checkpoint if number in stored else 0
        if reached > end:
            return error(
                "snapshot", f"it has read partition {number} up to offset {reached}, and the log ends at {end}",
                "the log has lost records, or is an older copy: restore it; or delete the snapshot to accept the loss",
            )  # fmt: skip
        if reached < log.starts[number]:
            return error(
                "snapshot",
                f"it has read partition {number} up to offset {reached}, and the log begins at {log.starts[number]}:"
                " the records between are gone",
                "use a newer snapshot or archive; no engine can continue from this one",
            )  # fmt: skip
        behind += end - reached
    written = [Path(f"{path}{side}").stat().st_mtime for side in ("", "-wal") if Path(f"{path}{side}").exists()]
    age_s = max(now_ms / 1000 - max(written), 0)
    says = f"written {age_s:,.0f} s ago, {behind:,} records behind the log"
    if behind > FAR_BEHIND:
        return warning(
            "snapshot", says, "check that a service runs and can write it: the next start reads those records again"
        )
    return ok("snapshot", f"{says}, {sum(row.sessions for row in stored.values()):,} sessions")


def _digests(log: ReadOnlyLog, stored: Mapping[int, PartitionRow]) -> Finding:
    """Fold the log as far as the snapshot goes, if that is little, and compare."""
    if any(log.starts[number] for number in stored):
        return note(
            "digest", "not compared, since the log has lost the beginning that the digest covers",
            "keep the snapshot and its archives: the log can no longer replace them",
        )  # fmt: skip
    records = sum(row.checkpoint for row in stored.values())
    shown = ", ".join(f"{number}: {row.digest.hex()[:12]}" for number, row in sorted(stored.items())[:4])
    if records > MAX_FOLDED:
        return note(
            "digest", f"not compared, since that would fold {records:,} records; by partition {shown}",
            "lastseen verify compares it with the log",
        )  # fmt: skip
    try:
        differing = [number for number, row in stored.items() if _fold(log, number, row.checkpoint) != row.digest]
    except LogError as failure:
        return warning("digest", f"not compared: {failure}", "follow its message, and run this again")
    if differing:
        return error(
            "digest", f"partition {differing[0]}: the snapshot's digest is not the log's",
            "the log is right: stop the service, delete the snapshot and the history, and start it again",
        )  # fmt: skip
    return ok("digest", f"{records:,} records folded: the snapshot's is the log's; by partition {shown}")


def _fold(log: ReadOnlyLog, number: int, end: int) -> bytes:
    partition = Partition(number)
    while partition.checkpoint < end:
        records = log.read(number, partition.checkpoint, min(PAGE_RECORDS, end - partition.checkpoint))
        if not records:
            break
        for record in records:
            partition.fold(record)
    return partition.digest


def _history(path: Path, stored: Mapping[int, PartitionRow]) -> Finding:
    step = "nothing is lost: the next start reads all of the log to rebuild it"
    try:
        with ReadOnlyFile(path) as file:
            meta = file.read(lambda connection: dict(connection.execute("SELECT name, value FROM meta")))
        reached = {number: int(meta.get(f"checkpoint-{number}", 0)) for number in stored}
    except (sqlite3.Error, ValueError, OSError) as failure:
        return warning("history", f"{path} cannot be read: {failure}", step)
    if any(reached[number] < row.checkpoint for number, row in stored.items()):
        return warning("history", f"{path} is older than the snapshot", step)
    return ok("history", f"as far as the snapshot, {sum(reached.values()):,} records")


def _archives(path: Path) -> Iterator[Finding]:
    archives = archives_of(str(path))
    bad = [archive for archive in archives if not is_sound(archive)]
    if bad:
        yield warning(
            "archives", f"{bad[0]} has changed since it was written", "delete it; another is made within the hour"
        )
    else:
        yield ok("archives", f"{len(archives)} copies of the snapshot, all unchanged")
    aside = Path(f"{path}.damaged")
    if aside.exists():
        yield note(
            "archives", f"{aside} is a damaged snapshot, kept under this name", "check the disk, and delete the file"
        )

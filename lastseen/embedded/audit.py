"""Audit: whether the log is whole, and whether what was made of it is what the log says. Writes nothing.

`rebuild` folds the log from its beginning and compares all that an engine would show with what it shows after a start
from the snapshot. `verify` looks at the files themselves: rows, offsets, log times, checksums, digests.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from lastseen.embedded.engine import Engine
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.offline import (
    HISTORY_COPY,
    copy_views,
    engine_in,
    existing_log_path,
    history_path,
    locked,
    snapshot_path,
    temporary_folder,
)
from lastseen.engine.errors import LastseenError, LogError, shown
from lastseen.engine.genesis import check_genesis
from lastseen.engine.log.port import Record
from lastseen.engine.log.read_only import ReadOnlyFile, copy_database, is_locked
from lastseen.engine.log.sqlite.file import FAILURES, TABLE
from lastseen.engine.log.sqlite.reader import SqliteLogReader
from lastseen.engine.session import SessionView
from lastseen.projections.archive import archives_of, is_sound
from lastseen.projections.partition import Partition
from lastseen.projections.snapshot import Snapshot
from lastseen.projections.snapshot_file import SnapshotFile
from lastseen.projections.snapshot_rows import Damaged
from lastseen.projections.statistics import Statistics

MAX_LISTED = 5
"""Differences of one kind that are listed in full; the rest are counted."""
PAGE = 1_000
Difference = tuple[str, Any, Any]
"""What differs, and how it is by the log and by the snapshot."""
PROGRESS_EVERY = 4_096


# ── rebuild ──


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a refold of the whole log came to."""

    records: int
    sessions: int
    snapshot_records: int
    """Records that the snapshot reflects; 0 where there is none."""
    digests: dict[str, str]
    """Partition → digest, of the refold."""
    differences: list[str]


def rebuild(url: str, progress: Progress | None = None) -> Rebuilt:
    """Fold the log at `url` from its beginning and compare with its snapshot, continued from the log.

    `progress` is called with how many records are folded. Raises the log's errors.
    """
    log = existing_log_path(url)
    with temporary_folder() as one, temporary_folder() as other:
        folders = one, other
        copy_views(log, folders[1])
        with engine_in(folders[0], url, progress) as refolded, engine_in(folders[1], url) as continued:
            # A service may have written between the two: let both end at the same record.
            _level(refolded, continued)
            differences = [*continued.notes, *_differences(refolded, continued)]
            refolded.flush()
            continued.flush()
            differences += _history_differences(*(folder / HISTORY_COPY for folder in folders))
            checkpoints = refolded.checkpoints()
            return Rebuilt(
                records=sum(offset for offset, _ in checkpoints.values()),
                sessions=refolded.count(),
                snapshot_records=_snapshot_records(log),
                digests={str(number): digest for number, (_, digest) in checkpoints.items()},
                differences=differences,
            )


def _snapshot_records(log: Path) -> int:
    """How many records the snapshot reflects; 0 where there is none, or it cannot be read."""
    if not snapshot_path(log).is_file():
        return 0
    try:
        with _Log(log) as file, temporary_folder() as folder:
            return sum(part.checkpoint for part in file.load_snapshot(snapshot_path(log), folder / "copy"))
    except (LastseenError, Damaged, sqlite3.Error, OSError):
        return 0


def _level(one: Engine, other: Engine) -> None:
    for _ in range(100):
        if [offset for offset, _ in one.checkpoints().values()] == [o for o, _ in other.checkpoints().values()]:
            return
        one.refresh()
        other.refresh()


def _differences(refolded: Engine, continued: Engine) -> Iterator[str]:
    """Sentences on what the two engines do not agree on."""
    wanted, found = refolded.checkpoints(), continued.checkpoints()
    for number in wanted:
        if wanted[number] != found[number]:
            yield f"partition {number}: the refold is at {wanted[number]}, the snapshot continued at {found[number]}"
    yield from _named("session", _session_differences(refolded, continued))
    counted, kept = ({**each.statistics(), "bodies": None, "pruner": None} for each in (refolded, continued))
    unlike = ((name, counted.get(name), kept.get(name)) for name in sorted(counted.keys() | kept.keys()))
    yield from _named("statistic", (each for each in unlike if each[1] != each[2]))


def _session_differences(refolded: Engine, continued: Engine) -> Iterator[Difference]:
    """Sessions that are live in both and not the same, or live in one only: one after the other, as bodies may be more
    than memory holds."""
    in_both = 0
    for session in _sessions(refolded):
        found = continued.get(session.key)
        one, other = _contents(refolded, session), None if found is None else _contents(continued, found)
        in_both += found is not None
        if one != other:
            yield session.key, one, other
    if continued.count() == in_both:
        return  # none lives there alone
    for session in _sessions(continued):
        if refolded.get(session.key) is None:
            yield session.key, None, _contents(continued, session)


def _sessions(engine: Engine) -> Iterator[SessionView]:
    cursor: str | None = None
    while True:
        page = engine.list(sort="created", limit=PAGE, cursor=cursor)
        yield from page.sessions
        cursor = page.cursor
        if cursor is None:
            return


def _contents(engine: Engine, session: SessionView) -> dict[str, Any]:
    """A session with its attributes and messages."""
    return {**session.as_dict(), "messages": [message[:] for message in engine.messages(session.key)]}


def _named(kind: str, unlike: Iterable[Difference]) -> Iterator[str]:
    """Sentences on what is not the same, the first ones in full."""
    others = 0
    for count, (name, one, other) in enumerate(unlike):
        if count >= MAX_LISTED:
            others += 1
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            # Only the fields in question: a whole session would not fit a line.
            fields = [field for field in one.keys() | other.keys() if one.get(field) != other.get(field)]
            one, other = ({field: each.get(field) for field in sorted(fields)} for each in (one, other))
        yield f"{kind} {name}: {shown(one, 300)} by the log, {shown(other, 300)} by the snapshot"
    if others:
        yield f"{others} more of kind {kind} differ"


def _history_differences(refolded: Path, continued: Path) -> Iterator[str]:
    for table in ("entries", "lives"):
        try:
            with closing(_read_only(refolded)) as one, closing(_read_only(continued)) as other:
                # Without an order they come by their primary key, which is how they lie in the file.
                rows = zip_longest(one.execute(f"SELECT * FROM {table}"), other.execute(f"SELECT * FROM {table}"))
                unlike = next(((wanted, found) for wanted, found in rows if wanted != found), None)
        except FAILURES as error:  # the refolded one has just been made: it is the other that cannot be read
            yield f"history, {table}: cannot be read: {error}"
            continue
        if unlike is not None:
            yield f"history, {table}: {shown(unlike[0], 300)} by the log, {shown(unlike[1], 300)} on disk"


# ── verify ──


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    says: str


def verify(url: str, progress: Progress | None = None) -> list[Check]:
    """Look at every file of the log at `url`.

    Raises `LogUnavailable` and `LogCorrupt` where the log cannot be read at all.
    """
    path = existing_log_path(url)
    checks: list[Check] = []
    with _Log(path) as log, temporary_folder() as folder:
        checks.append(_checked("log file", log.quick_check))
        snapshots: dict[str, list[Partition]] = {}
        snapshot = snapshot_path(path)
        candidates = [("snapshot", snapshot)] if snapshot.is_file() else []
        candidates += [(f"archive {archive.name}", archive) for archive in archives_of(str(snapshot))]
        for number, (name, place) in enumerate(candidates):
            loaded = _loaded(log, name, place, folder / str(number))
            if isinstance(loaded, Check):
                checks.append(loaded)
            else:
                snapshots[name] = loaded
        digests = {(each.number, each.checkpoint): b"" for parts in snapshots.values() for each in parts}
        checks.append(_checked("log records", lambda: log.fold(digests, progress)))
        checks.append(_checked("genesis", log.genesis))
        checks += [_digest_check(name, parts, digests) for name, parts in snapshots.items()]
        checks.append(_checked("history", lambda: _history(log, history_path(path), snapshots.get("snapshot", []))))
    return checks


class _Fault(Exception):
    """What a check found wrong."""


def _checked(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what, True, look())
    except LogError as error:
        if is_locked(error.__cause__):
            raise  # it was not looked at, which is no fault of it
        return Check(what, False, str(error))
    except (_Fault, *FAILURES, OSError) as error:
        return Check(what, False, str(error))


def _loaded(log: _Log, name: str, place: Path, copy: Path) -> list[Partition] | Check:
    if name != "snapshot" and not is_sound(place):
        return Check(name, False, f"{place}: its bytes are not those whose SHA-256 lies beside it")
    try:
        return log.load_snapshot(place, copy)
    except sqlite3.OperationalError as error:
        if is_locked(error):
            raise locked(place, error) from error
        return Check(name, False, f"{place}: {error}")
    except (Damaged, LastseenError, *FAILURES, OSError) as error:
        return Check(name, False, f"{place}: {error}")


def _digest_check(name: str, parts: list[Partition], digests: dict[tuple[int, int], bytes]) -> Check:
    for part in parts:
        if digests[part.number, part.checkpoint] != part.digest:
            return Check(
                name, False, f"partition {part.number}: its digest at record {part.checkpoint} is not the log's"
            )
    records, sessions = sum(part.checkpoint for part in parts), sum(map(len, parts))
    return Check(name, True, f"{sessions:,} sessions after {records:,} records, and its digest is the log's")


def _history(log: _Log, path: Path, snapshot: list[Partition]) -> str:
    if not path.is_file():
        if any(part.checkpoint for part in snapshot):
            raise _Fault(f"{path} is missing, and there is a snapshot: the next start folds all of the log")
        return "none"

    def read(connection: sqlite3.Connection) -> tuple[str, dict[str, Any], int]:
        (says,) = connection.execute("PRAGMA quick_check").fetchone()
        if says != "ok":
            return says, {}, 0
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        return says, meta, connection.execute("SELECT COUNT(*) FROM entries").fetchone()[0]

    try:
        with ReadOnlyFile(path) as file:
            says, meta, entries = file.read(read)
    except sqlite3.Error as error:
        if is_locked(error):
            raise locked(path, error) from error
        raise
    if says != "ok":
        raise _Fault(f"{path}: {says}")
    if meta.get("identity") != log.identity:
        raise _Fault(f"{path} belongs to log {meta.get('identity')}, and this is {log.identity}")
    for part in snapshot:
        if int(meta.get(f"checkpoint-{part.number}", 0)) < part.checkpoint:
            raise _Fault(f"{path} is older than the snapshot: the next start folds all of the log")
    return f"{entries:,} records by key"


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)


class _Log:
    """A log's file, opened for reading only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = SqliteLogReader(str(path))
        self.identity, self.partitions = self._log.identity, self._log.partitions
        self.end_offsets, self.read = self._log.end_offsets, self._log.read
        """The offset after each partition's last record; the records of a partition from an offset on."""

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def quick_check(self) -> str:
        """What SQLite says of the file."""
        says = self._log.read_file(lambda connection: connection.execute("PRAGMA quick_check").fetchone()[0])
        if says != "ok":
            raise _Fault(f"{self._path}: {says}")
        return f"identity {self.identity}, {self.partitions} partition{'s' * (self.partitions != 1)}"

    def genesis(self) -> str:
        """What the first records say of the log. Raises `LogMismatch`, with which no engine opens it."""
        if not any(self.end_offsets()):
            return "the log is empty: the first engine that opens it writes its genesis records"
        return f"each partition begins as a part of log {check_genesis(self)}"

    def load_snapshot(self, place: Path, copy: Path) -> list[Partition]:
        """The partitions that a snapshot holds; read from a copy, since opening a snapshot may write to it."""
        copy_database(place, copy)
        partitions = [Partition(number) for number in range(self.partitions)]
        snapshot = Snapshot(SnapshotFile(str(copy), self.identity, len(partitions)), len(partitions))
        try:
            snapshot.load(partitions, Statistics(len(partitions)), self.end_offsets)
        finally:
            snapshot.close()
        return partitions

    def fold(self, digests: dict[tuple[int, int], bytes], progress: Progress | None) -> str:
        """Fold every record in the order in which it was written; fill in the digests that are asked for."""
        total = sum(self.end_offsets())
        return self._log.read_file(lambda connection: self._fold(connection, total, digests, progress))

    def _fold(
        self, connection: sqlite3.Connection, total: int, digests: dict[tuple[int, int], bytes],
        progress: Progress | None,
    ) -> str:  # fmt: skip
        partitions = [Partition(number) for number in range(self.partitions)]
        for part in partitions:
            self._note(part, digests)
        latest_ms, count = 0, 0
        rows = connection.execute(
            f"SELECT originator_id, originator_version, log_time_ms, topic, state FROM {TABLE} ORDER BY rowid"
        )
        for count, (number, offset, at_ms, key, value) in enumerate(rows, start=1):
            if not str(number).isdecimal() or int(number) >= len(partitions):
                raise _Fault(f"there is a record of partition {shown(number)}, and there are {len(partitions)}")
            part = partitions[int(number)]
            if offset != part.checkpoint:
                raise _Fault(f"partition {number}: the record at offset {part.checkpoint} is missing; found {offset}")
            if not isinstance(at_ms, int | None) or not isinstance(value, bytes | None):
                raise _Fault(f"partition {number}, offset {offset}: the row no longer holds a record")
            at_ms = at_ms or 0
            if at_ms < latest_ms:
                raise _Fault(f"partition {number}, offset {offset}: log time goes back from {latest_ms} to {at_ms}")
            latest_ms = at_ms
            part.fold(Record(part.number, offset, at_ms, key, value))
            self._note(part, digests)
            if progress is not None and count % PROGRESS_EVERY == 0:
                progress(count, total)
        return f"{count:,} records without a gap, log time never goes back"

    @staticmethod
    def _note(part: Partition, digests: dict[tuple[int, int], bytes]) -> None:
        if (part.number, part.checkpoint) in digests:
            digests[part.number, part.checkpoint] = part.digest

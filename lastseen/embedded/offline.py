"""Reading a log beside the service that writes it: on copies of its snapshot and history, which stay as they are.

A snapshot has one writer, the engine that it belongs to. So those who only look take a copy and continue that from the
log; where there is none, or none that will do, they fold the log from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from lastseen.embedded.engine import Engine
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.settings import Settings
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import InvalidSetting, LogUnavailable, SnapshotError, shown
from lastseen.engine.log import open_log
from lastseen.engine.log.file_system import locked_text
from lastseen.engine.log.read_only import copy_database, is_locked
from lastseen.engine.log.sqlite.file import FAILURES
from lastseen.engine.log.urls import SCHEMES, split_url, unknown_scheme
from lastseen.projections.archive import archives_of

COPY, HISTORY_COPY = "copy.snapshot", "copy.history"
_SIDE_FILES = ("", "-wal", "-shm", "-journal")


def log_path(url: str) -> Path:
    """The file of the log at an `sqlite:///` URL. Raises `InvalidSetting` where the URL names no file."""
    parts = split_url(url)
    path = unquote(parts.path[1:])
    if parts.scheme and parts.scheme not in SCHEMES:
        raise InvalidSetting(f"log URL: {unknown_scheme(parts)}")
    if parts.scheme != "sqlite" or parts.netloc or not path:
        raise InvalidSetting(f"log URL {shown(url)}: give the file of a log, such as sqlite:///path/to/file.db")
    return Path(path).absolute()


def existing_log_path(url: str) -> Path:
    """The same, of a log that is there. Raises `LogUnavailable` where it is not: reading must not make one."""
    path = log_path(url)
    if not path.is_file() or not path.stat().st_size:
        raise LogUnavailable(f"there is no log at {path}: name it with --log or LASTSEEN_LOG")
    return path


def snapshot_path(log: Path) -> Path:
    """Where the snapshot of a log is, unless its engine has another setting."""
    return log.with_name(f"{log.name}.snapshot")


def history_path(log: Path) -> Path:
    """Where its history is."""
    return log.with_name(f"{log.name}.history")


def files_of(log: Path) -> list[Path]:
    """Every file of a log that is there: its own, the snapshot, the history, archives, and what was set aside."""
    snapshot = snapshot_path(log)
    archives = archives_of(str(snapshot))
    places = [
        *(Path(f"{place}{side}") for place in (log, snapshot, history_path(log)) for side in _SIDE_FILES),
        *archives,
        *(Path(f"{archive}.sha256") for archive in archives),
        Path(f"{snapshot}.damaged"),
    ]
    return [place for place in places if place.is_file()]


@contextmanager
def reading(url: str, *, progress: Progress | None = None, appends: bool = False) -> Iterator[Engine]:
    """An engine on an existing log that runs nothing by itself and leaves the log's snapshot and history alone.

    Unless it `appends`, it needs no right to write to the log's file or folder.

    A topic of Kafka has neither beside it, and is folded from its beginning. Raises the log's errors.
    """
    path = None if split_url(url).scheme == "kafka" else existing_log_path(url)
    with temporary_folder() as folder:
        if path is not None:
            copy_views(path, folder)
        with engine_in(folder, url, progress, appends=appends) as engine:
            yield engine


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed at the end. Raises `SnapshotError` where none can be made, or written to."""
    try:
        folder = TemporaryDirectory(prefix="lastseen-", ignore_cleanup_errors=True)
    except OSError as error:
        raise SnapshotError(
            f"no temporary folder can be made: {error}. Free some space, or name another folder in TMPDIR"
        ) from error
    with folder as name:
        yield Path(name)


def engine_in(folder: Path, url: str, progress: Progress | None = None, *, appends: bool = False) -> Engine:
    """An engine that runs nothing by itself, with snapshot and history in `folder`; to read, unless it `appends`."""
    settings = Settings.of(
        snapshot=str(folder / COPY), background=False, prune=False, facts=False, archive_interval=None
    )
    clock = SystemClock()
    log = open_log(url, clock, read_only=not appends)
    try:
        return Engine(log, clock, settings, progress)
    except BaseException:
        log.close()
        raise


def copy_views(log: Path, folder: Path) -> None:
    """Copy the snapshot and the history of a log for `engine_in`; neither, if one is missing or cannot be copied.

    Raises `SnapshotError` where one stays locked.
    """
    # The snapshot first: a history may be ahead of its snapshot, and never the other way round.
    pairs = (snapshot_path(log), folder / COPY), (history_path(log), folder / HISTORY_COPY)
    if not all(source.is_file() for source, _ in pairs):
        return
    try:
        for source, target in pairs:
            copy_database(source, target)
    except (*FAILURES, OSError) as error:
        for _, target in pairs:
            target.unlink(missing_ok=True)
        if is_locked(error):
            raise locked(source, error) from error


def locked(path: Path, error: Exception) -> SnapshotError:
    """The error for a snapshot, a history or an archive that stays locked."""
    return SnapshotError(f"{path} {locked_text(path, error)}")

"""The SQLite file of a log: refusing what is none, making one, and turning SQLite's errors into ours."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lastseen.engine.errors import InvalidSetting, LogCorrupt, LogError, LogMismatch, LogTooNew, LogUnavailable, shown
from lastseen.engine.log.file_system import input_output_text, locked_text
from lastseen.engine.log.port import MAX_PARTITIONS
from lastseen.engine.log.read_only import ReadOnlyFile

FORMAT = 1
META = "lastseen_log"
TABLE = "stored_events"
FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What a statement can raise on a damaged file: where a name in the schema is no text any more, `sqlite3` fails to put
its own error into words."""
_HEADER = b"SQLite format 3\x00"


class LogFile(NamedTuple):
    """What a log's file says of itself."""

    identity: str
    partitions: int


def log_error(path: str, error: sqlite3.Error | UnicodeDecodeError | OSError) -> LogError:
    """The typed error for what SQLite, or the file system, says of a log's file. Nothing was written."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LogUnavailable(f"log {path} {locked_text(Path(path), error)}")
    if code == sqlite3.SQLITE_FULL:
        return LogUnavailable(f"log {path} cannot grow, the disk is full: free some space and try again ({error})")
    is_read_only = code == sqlite3.SQLITE_CANTOPEN and not all(map(_may_write, (Path(path), Path(path).parent)))
    if is_read_only or code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return LogUnavailable(f"log {path} cannot be written: correct its permissions and its folder's ({error})")
    # sqlite3 raises an `OperationalError` without a code for text that is not UTF-8.
    is_garbled = isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or is_garbled:
        return LogCorrupt(f"log {path} is damaged ({error}): stop all writers and restore it from a copy")
    if isinstance(error, sqlite3.Error) and code == sqlite3.SQLITE_IOERR:
        return LogUnavailable(f"log {path} {input_output_text(Path(path), error)}")
    return LogUnavailable(f"log {path} cannot be used: {error}; check that the disk works and that the folder exists")


def _may_write(path: Path) -> bool:
    return not path.exists() or os.access(path, os.W_OK)


def check_is_log(path: Path) -> None:
    """Refuse a file that is no log, without changing a byte of it. A file that is not there, or empty, will do.

    Raises `InvalidSetting`, `LogUnavailable`, `LogCorrupt`.
    """
    if not check_path(path):
        return
    try:
        with ReadOnlyFile(path) as file:
            file.read(lambda connection: _check_tables(str(path), connection))
    except (*FAILURES, OSError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
            _check_was_being_made(path)
            return
        raise log_error(str(path), error) from error


def check_path(path: Path) -> bool:
    """Refuse a path that can be no log's; whether there is a file with anything in it.

    Raises `InvalidSetting`, `LogUnavailable`, `LogCorrupt`.
    """
    if "\0" in str(path) or ":memory:" in str(path) or "mode=memory" in str(path):
        raise InvalidSetting(f"log {shown(path)}: give another name for the file, or memory:// for a log in memory")
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InvalidSetting(f"log {shown(path)} names no file ({error.strerror}): give another path") from error
    if path.is_dir():
        raise InvalidSetting(f"log {path} is a folder: give the path of a file in it")
    if not path.parent.is_dir():
        raise InvalidSetting(f"log {path}: the folder does not exist: {path.parent}; create it first")
    try:
        size = path.stat().st_size if path.exists() else 0
    except OSError as error:
        raise log_error(str(path), error) from error
    if 0 < size < len(_HEADER):  # SQLite takes one byte for an empty file
        _check_was_being_made(path)
        return False
    return size > 0


def _check_was_being_made(path: Path) -> None:
    """Refuse a file that is no database, unless the power went while it was made: SQLite takes back what it began.

    Only such a file is opened without SQLite. Closing any descriptor of a file gives up every lock that this process
    has on it: another process that closes the log then deletes the write-ahead file that our engine appends to.
    """
    if path.with_name(f"{path.name}-journal").exists():
        try:
            with path.open("rb") as file:
                header = file.read(len(_HEADER))
        except OSError as error:
            raise log_error(str(path), error) from error
        if not header.strip(b"\0"):
            return
    raise LogCorrupt(f"{path} is not a log of lastseen (it is not an SQLite database): give another path")


def _check_tables(path: str, connection: sqlite3.Connection) -> bool:
    """Refuse what is not a log of ours, or newer than we are; whether there is a log yet."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not names:
        return False
    if META not in names:
        raise LogCorrupt(f"{path} is a database, but not a log of lastseen: give another path")
    _check(path, dict(connection.execute(f"SELECT name, value FROM {META}")), None)
    if TABLE not in names:
        # To make it again would be to forget all that was acknowledged.
        raise LogCorrupt(f"log {path} has lost its records: stop all writers and restore it from a copy")
    return True


def read_header(path: str, connection: sqlite3.Connection) -> LogFile:
    """What the log says of itself. Raises `LogCorrupt`, `LogTooNew`, `LogUnavailable` where it is empty."""
    if not _check_tables(path, connection):
        raise LogUnavailable(f"there is no log at {path}: the file is an empty database")
    return _check(path, dict(connection.execute(f"SELECT name, value FROM {META}")), None)


def prepare(
    connection: sqlite3.Connection,
    path: str,
    create_tables: list[str],
    partitions: int | None,
    begin: Callable[[LogFile], None] | None = None,
) -> LogFile:
    """Make the tables if there are none, and read what the log says of itself. `begin` writes the first records.

    It is called in the same transaction, if the log has no record yet: no crash leaves a part of them.

    Raises `LogCorrupt`, `LogTooNew`, `sqlite3.Error`, and `LogMismatch` where the log has another number of partitions
    than asked for.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _check_tables(path, connection):
            connection.execute(f"CREATE TABLE {META} (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
            for statement in create_tables:
                connection.execute(statement)
            connection.execute(
                f"INSERT INTO {META} VALUES ('format', ?), ('identity', ?), ('partitions', ?)",
                (FORMAT, uuid.uuid4().hex, 1 if partitions is None else partitions),
            )
        meta = dict(connection.execute(f"SELECT name, value FROM {META}"))
        file = _check(path, meta, partitions)
        if begin is not None and connection.execute(f"SELECT 1 FROM {TABLE} LIMIT 1").fetchone() is None:
            begin(file)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return file


def _check(path: str, meta: dict[str, object], partitions: int | None) -> LogFile:
    version, identity, count = meta.get("format"), meta.get("identity"), meta.get("partitions")
    if isinstance(version, int) and version > FORMAT:
        raise LogTooNew(
            f"log {path} was written in format {version}, and this lastseen reads format {FORMAT}: use a newer lastseen"
        )
    if (
        version != FORMAT
        or not isinstance(identity, str)
        or not isinstance(count, int)
        or not 1 <= count <= MAX_PARTITIONS
    ):
        raise LogCorrupt(f"log {path} says {shown(meta)} in its header, which is not valid: restore it from a copy")
    if partitions is not None and count != partitions:
        raise LogMismatch(
            f"log {path} has {count} partitions, and {partitions} were requested: the number is fixed when"
            " a log is made. Leave it out, or copy the log into a new one"
        )
    return LogFile(identity, count)

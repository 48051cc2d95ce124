"""Archived copies of the snapshot, and which file to start from when one is damaged.

An archive is a compact copy beside the snapshot, `<snapshot>.archive-<number>`, with the SHA-256 of its bytes in
`….sha256`. On start the snapshot itself is used if it is sound, else the newest archive whose digest fits, else none:
then everything is folded from the log. What was damaged is set aside as `<snapshot>.damaged`, and that is said.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from lastseen.engine.errors import SnapshotError
from lastseen.engine.log.private_file import make_private
from lastseen.projections.snapshot_file import SnapshotFile
from lastseen.projections.snapshot_rows import Damaged

T = TypeVar("T")
KEPT_ARCHIVES = 3
_SIDE_FILES = ("-wal", "-shm")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def archives_of(path: str) -> list[Path]:
    """The archives of a snapshot, newest first."""
    place = Path(path)
    numbered = []
    for found in place.parent.glob(f"{place.name}.archive-*"):
        number = found.name.rpartition("-")[2]
        if number.isdecimal():
            numbered.append((int(number), found))
    return [found for _, found in sorted(numbered, reverse=True)]


def is_sound(archive: Path) -> bool:
    """Whether an archive's bytes are those that were written."""
    try:
        wanted = archive.with_name(f"{archive.name}.sha256").read_text("ascii").strip()
        return sha256_of(archive) == wanted
    except (OSError, UnicodeDecodeError):
        return False


def archive(file: SnapshotFile) -> Path:
    """Write an archived copy of a snapshot and drop the oldest; returns where it is. Raises `SnapshotError`."""
    existing = archives_of(file.path)
    number = int(existing[0].name.rpartition("-")[2]) + 1 if existing else 1
    target = Path(f"{file.path}.archive-{number}")
    try:
        file.copy_to(str(target))
        with target.open("rb+") as written:
            os.fsync(written.fileno())
        checksum = target.with_name(f"{target.name}.sha256")
        make_private(checksum)
        checksum.write_text(sha256_of(target) + "\n", "ascii")
        for old in existing[KEPT_ARCHIVES - 1 :]:
            old.unlink(missing_ok=True)
            old.with_name(f"{old.name}.sha256").unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        raise SnapshotError(
            f"archive {target} cannot be written: {error}. The snapshot itself is not affected; free some space"
        ) from error
    return target


def open_soundest(path: str, open_file: Callable[[], T]) -> tuple[T, list[str]]:
    """What `open_file` makes of the snapshot at `path`, or of the newest sound archive, or of an empty file.

    `open_file` raises `Damaged` where the file will not do. Returns its result and sentences on what was skipped.
    """
    notes: list[str] = []
    candidates = archives_of(path)
    while True:
        try:
            return open_file(), notes
        except Damaged as damage:
            _set_aside(path)
            notes.append(f"snapshot {path} is damaged ({damage}) and was renamed to {path}.damaged")
        while candidates and not is_sound(candidates[0]):
            notes.append(f"archive {candidates.pop(0)} is damaged too, and was skipped")
        if candidates:
            chosen = candidates.pop(0)
            make_private(path)
            shutil.copyfile(chosen, path)
            notes.append(f"started from archive {chosen}; later records are folded from the log")
        else:
            notes.append("there is no sound archive: everything is folded from the log")


def _set_aside(path: str) -> None:
    for suffix in _SIDE_FILES:
        Path(path + suffix).unlink(missing_ok=True)
    try:
        Path(path).replace(f"{path}.damaged")
    except OSError as error:
        raise SnapshotError(
            f"damaged snapshot {path} cannot be renamed: {error}. Move it to another folder yourself"
        ) from error

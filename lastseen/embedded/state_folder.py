"""Where snapshot and history are kept for a log that has no folder of its own: in the account's folder for state.

`$STATE_DIRECTORY` (which systemd sets for a service with `StateDirectory=`), else `$XDG_STATE_HOME`, else
`~/.local/state`, on Windows `%LOCALAPPDATA%`; in it `lastseen/<identity of the log>/<number>`. The number is the first
that no other engine on this machine uses, by a lock that the system frees when the engine ends: engines share no files,
and one that starts again finds what one of them has left.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lastseen.engine.log.file_lock import FileLock
from lastseen.engine.log.private_file import MODE

MAX_ENGINES = 64
"""Engines of one log on one machine that get folders of their own."""
_SNAPSHOT = "snapshot"
_LOCK = "in-use"
_SILENT = "silent-"


class StateFolder(NamedTuple):
    """A folder that this engine has to itself while `lock` is held."""

    path: Path
    lock: FileLock

    @property
    def snapshot(self) -> str:
        """The path of the snapshot in it."""
        return str(self.path / _SNAPSHOT)


def state_home(environment: Mapping[str, str]) -> Path:
    """The folder for state of all programs of this account. Raises `OSError` where there is none."""
    given = environment.get("STATE_DIRECTORY", "").partition(":")[0] or environment.get("XDG_STATE_HOME", "")
    if given and Path(given).is_absolute():  # as the standard asks
        return Path(given)
    if sys.platform == "win32" and environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"])
    try:
        home = Path.home()
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if not home.is_dir() or home == Path(home.root):
        raise OSError(f"this account has no home folder ({home})")
    return home / ".local" / "state"


def folder_of(identity: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for all engines on the log of this identity. Raises `OSError` where there can be none."""
    return state_home(environment) / "lastseen" / re.sub(r"[^A-Za-z0-9_-]", "_", identity)


def left_snapshots(identity: str, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """The snapshots of engines on this log that are there, the one written last first."""
    try:
        found = [path for path in folder_of(identity, environment).glob(f"*/{_SNAPSHOT}") if path.is_file()]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    except OSError:
        return []


def claim(identity: str, environment: Mapping[str, str] = os.environ, *, publishes: bool = True) -> StateFolder:
    """A folder for an engine on the log of this identity. Raises `OSError` where none can be had.

    Engines that publish no facts have folders of their own: their snapshots do not say what is still to be published,
    and an engine that publishes would have to fold the log from its beginning for it.
    """
    parent = folder_of(identity, environment)
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(MAX_ENGINES):
        folder = parent / f"{'' if publishes else _SILENT}{number}"
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = FileLock(folder / _LOCK, MODE)
        try:
            if lock.try_take():
                _check_writable(folder)
                return StateFolder(folder, lock)
        except BaseException:
            lock.close()
            raise
        lock.close()
    raise OSError(f"{MAX_ENGINES} engines on this log use folders in {parent}")


def _check_writable(folder: Path) -> None:
    probe = folder / f"probe-{os.getpid()}"
    try:
        probe.write_bytes(b"lastseen")
    finally:
        with suppress(OSError):
            probe.unlink()

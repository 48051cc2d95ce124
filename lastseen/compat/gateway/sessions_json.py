"""`sessions.json`, written for those parts of the gateway that read the file instead of asking the store.

The gateway's mirror, channel directory and status look up live conversations there. So a thread writes it, whole or not
at all, soon after a change: at once where that is quick, and so seldom that writing takes no more than a twentieth of
the time where there are many sessions. Nothing reads it back here: the log is the store.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from lastseen.compat.gateway.entry import SessionEntry
from lastseen.compat.gateway.replace_file import replace_file
from lastseen.engine.errors import EngineClosed, LastseenError

_logger = logging.getLogger("lastseen")
FILE_NAME = "sessions.json"
OURS = "life"
"""A field of each entry that only this store writes: without it, a file is the old store's."""
LOOK_EVERY_S = 1.0
"""How soon changes of other processes are noticed."""
SHARE = 20
"""Writing rests this many times as long as it took."""
_SETTLE_S = 0.02


class SessionsJson:
    """A file that follows a store's sessions until it is closed, the engine shuts down, or nothing refers to it."""

    def __init__(
        self, path: Path, entries: Callable[[], Iterable[SessionEntry]], version: Callable[[], object]
    ) -> None:
        self.path = path
        self._entries, self._version = entries, version
        """What lives, and a value that differs after each change of any session."""
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._written: object = None
        self._fails = False
        self._lock = threading.Lock()
        # The thread does not keep a store that its owner has dropped without closing it.
        weakref.finalize(self, _stop, self._stopped, self._changed)
        self._thread = threading.Thread(
            target=_follow, args=(weakref.ref(self), self._stopped, self._changed), name="lastseen-sessions-json",
            daemon=True,
        )  # fmt: skip
        self._thread.start()

    def request_write(self) -> None:
        """A session has just begun, ended or changed here."""
        self._changed.set()

    def write(self) -> None:
        """Write the file, if anything has changed since. A disk or log that fails is warned of; the next time retries.

        Another store's file is kept under another name. Raises `EngineClosed`.
        """
        with self._lock:
            try:
                version = self._version()
                if version == self._written and self.path.exists():
                    return
                content = json.dumps({entry.session_key: _plain(entry) for entry in self._entries()}, indent=2)
                keep_foreign(self.path)
                replace_file(self.path, content.encode("utf-8", "surrogatepass"))
            except EngineClosed:
                raise
            except (OSError, LastseenError) as error:
                level = logging.DEBUG if self._fails else logging.WARNING  # a warning for each failure, not each try
                _logger.log(level, "%s was not written, and is tried again: %s", self.path, error)
                self._fails = True
            else:
                self._written, self._fails = version, False

    def close(self) -> None:
        """Write what has changed, and no more. May be called again."""
        if self._stopped.is_set():
            return
        _stop(self._stopped, self._changed)
        self._thread.join()
        with suppress(EngineClosed):  # by its owner, before the store
            self.write()


def _stop(stopped: threading.Event, changed: threading.Event) -> None:
    stopped.set()
    changed.set()


def _follow(file: weakref.ref[SessionsJson], stopped: threading.Event, changed: threading.Event) -> None:
    while not stopped.is_set() and (mine := file()) is not None:
        began_s = time.monotonic()
        try:
            mine.write()
        except EngineClosed:
            return
        finally:
            del mine
        rest_s = max((time.monotonic() - began_s) * SHARE, _SETTLE_S)
        changed.wait(LOOK_EVERY_S)
        changed.clear()
        stopped.wait(rest_s)  # what changes meanwhile is written in one


def _plain(entry: SessionEntry) -> dict[str, Any]:
    """An entry as the old store writes it, times included: local, without a zone."""
    plain = entry.to_dict()
    for name in ("created_at", "updated_at", "last_resume_marked_at"):
        if plain[name] is not None:
            plain[name] = datetime.fromisoformat(plain[name]).astimezone().replace(tzinfo=None).isoformat()
    return plain | {OURS: entry.life}


def foreign_entries(path: Path) -> int:
    """How many entries a `sessions.json` has that another store has written; 0 where there is no such file."""
    return _foreign(_content(path))


def _foreign(content: bytes) -> int:
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(entries, dict):
        return 0
    return sum(not isinstance(entry, dict) or OURS not in entry for entry in entries.values())


def keep_foreign(path: Path) -> None:
    """Give another store's file a name of its own, and what cannot be read as well, so that it is not overwritten."""
    content = _content(path)
    if not content.strip() or (_is_object(content) and not _foreign(content)):
        return
    names = (path.with_name(f"{path.name}.old{number or ''}") for number in count())
    kept = next(name for name in names if not name.exists())
    path.rename(kept)
    _logger.warning("%s was not written by this store, and is kept as %s", path, kept.name)


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""

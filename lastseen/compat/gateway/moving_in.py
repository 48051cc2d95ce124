"""Opening the log of a folder: the sessions of the old store that ran there are brought over first."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lastseen.compat.gateway.config import policy_of
from lastseen.compat.gateway.importing import holds_import_of, import_sessions, is_empty
from lastseen.compat.gateway.sessions_json import FILE_NAME, foreign_entries
from lastseen.embedded.engine import Engine
from lastseen.embedded.opening import open_engine
from lastseen.engine.clock import Clock
from lastseen.engine.errors import InvalidSetting, LogMismatch, shown

_logger = logging.getLogger("lastseen")
SOURCE = "/gateway"
LOG_NAME = "sessions.lastseen.db"
_NOT_IMPORTED = (
    "%s has %d sessions of another store, which are not imported, since only an empty log takes an import: their users"
    " begin afresh. To have them, import the file into a log of its own with `lastseen import gateway`, and open that"
)


def open_moved_in(folder: Path, url: str | None, config: Any, clock: Clock) -> Engine:
    """The engine on a folder's own log, or on the log at `url`. Raises the errors of an import and of a start.

    Only an empty log of the folder's own takes the sessions of its `sessions.json`.
    """
    place = url or f"sqlite:///{quote(str((folder / LOG_NAME).absolute()))}"
    old = folder / FILE_NAME
    if entries := foreign_entries(old):
        if url is None and is_empty(place):
            _move_in(old, place, config, clock)
        elif not holds_import_of(old, place) and foreign_entries(old):  # or another process has taken it meanwhile
            _logger.warning(_NOT_IMPORTED, old, entries)
    return open_engine(place, clock=clock, source=SOURCE, idle_ttl=None)


def _move_in(old: Path, place: str, config: Any, clock: Clock) -> None:
    try:
        imported = import_sessions(old, place, policy=policy_of(config), clock=clock)
    except (LogMismatch, InvalidSetting):
        if is_empty(place):
            raise
        return  # another process was first, has brought them over, and may have put its own file there
    for key, why in imported.skipped:
        _logger.warning("%s: session %s was not imported: %s", old, shown(key), why)
    for key, name, why in imported.corrections:
        _logger.warning("%s: session %s was imported without its %s: %s", old, shown(key), name, why)

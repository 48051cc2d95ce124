"""Conversations in two places: files of JSON lines, and the gateway's own `state.db`, as the old store had them.

`state.db` belongs to the gateway, whose agent writes to it and whose `/resume`, titles and search read it. The store's
part is to say there which conversations begin, end and go on, and to read and rewrite what was said. It is reached
through the gateway's own `SessionDB`, or anything with its calls. What it raises is logged, and stops no message.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from lastseen.compat.gateway.entry import SessionEntry
from lastseen.compat.gateway.platform import platform_name
from lastseen.compat.gateway.surrogates import storable
from lastseen.compat.gateway.transcripts import Transcripts
from lastseen.engine.errors import shown

_logger = logging.getLogger("lastseen")
_COLUMNS = ("content", "tool_name", "tool_calls", "tool_call_id")
_OF_ASSISTANTS = (
    "reasoning", "reasoning_content", "reasoning_details", "codex_reasoning_items", "codex_message_items",
)  # fmt: skip


class SessionDb(Protocol):
    """What the store calls of the gateway's `hermes_state.SessionDB`."""

    def create_session(self, session_id: str, source: str, **more: Any) -> Any:
        """A conversation begins; one that is there stays."""

    def end_session(self, session_id: str, end_reason: str) -> None:
        """A conversation has ended."""

    def reopen_session(self, session_id: str) -> None:
        """A conversation that had ended goes on."""

    def append_message(self, session_id: str, role: str, **columns: Any) -> Any:
        """Something was said."""

    def replace_messages(self, session_id: str, messages: list[dict[str, Any]]) -> None:
        """Put these in the place of all that was said."""

    def get_messages_as_conversation(self, session_id: str) -> list[dict[str, Any]]:
        """All that was said, oldest first."""


def gateways_own_db() -> SessionDb | None:
    """The `state.db` of the gateway that runs in this process; `None` where none does, or it cannot be opened."""
    if not sys.modules.keys() & {"hermes_state", "gateway.config"}:
        return None  # that it is installed is no reason to open a user's database
    try:
        db: SessionDb = importlib.import_module("hermes_state").SessionDB()
    except ModuleNotFoundError:
        return None  # another program's module of this name
    except Exception as error:  # it is the gateway's own, and may raise anything
        _logger.warning("the gateway's state.db cannot be opened, transcripts are files only: %r", error)
        return None
    return db


class Conversations:
    """The transcripts of a folder and, with `db`, of `state.db`."""

    def __init__(self, files: Transcripts, db: SessionDb | None) -> None:
        self.files = files
        self.db = db

    def path(self, session_id: str) -> Path:
        """Where a transcript's file is, or will be. Raises `InvalidEvent`."""
        return self.files.path(session_id)

    def append(self, session_id: str, message: dict[str, Any], *, skip_db: bool) -> None:
        """Add a message; with `skip_db` to the file only, since the agent has written it to `state.db`."""
        self.files.path(session_id)
        if not skip_db:
            role = message.get("role", "unknown")
            names = (*_COLUMNS, *_OF_ASSISTANTS) if role == "assistant" else _COLUMNS
            columns = {name: message.get(name) for name in names}
            self._call(lambda db: db.append_message(session_id, role, **columns))
        self.files.append(session_id, message)

    def rewrite(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Put these messages in the place of all. Raises `OSError` where the file stays as it was."""
        self.files.path(session_id)
        self._call(lambda db: db.replace_messages(session_id, list(messages)))
        self.files.rewrite(session_id, messages)

    def load(self, session_id: str) -> list[dict[str, Any]]:
        """All messages, from the place that has more: a conversation that is older than `state.db` is whole in its file
        alone."""
        in_file = self.files.load(session_id)
        in_db: list[dict[str, Any]] = []
        self._call(lambda db: in_db.extend(db.get_messages_as_conversation(session_id)))
        return in_file if len(in_file) > len(in_db) else in_db

    def has_any(self, session_id: str) -> bool:
        """Whether anything was said."""
        return self.files.has_any(session_id) or (self.db is not None and bool(self.load(session_id)))

    def begun(self, entry: SessionEntry) -> None:
        """A fresh conversation has begun with this entry."""
        platform = "unknown" if entry.platform is None else platform_name(entry.platform)
        user_id = None if entry.origin is None else storable(entry.origin.user_id)
        self._call(lambda db: db.create_session(entry.session_id, platform, user_id=user_id))

    def ended(self, session_id: str, reason: str) -> None:
        """A conversation does not go on."""
        self._call(lambda db: db.end_session(session_id, reason))

    def reopened(self, session_id: str) -> None:
        """A conversation goes on after all."""
        self._call(lambda db: db.reopen_session(session_id))

    def _call(self, call: Callable[[SessionDb], Any]) -> None:
        if self.db is None:
            return
        try:
            call(self.db)
        except Exception as error:  # it is the gateway's own, and may raise anything
            _logger.warning("the gateway's state.db: %s", shown(repr(error)))

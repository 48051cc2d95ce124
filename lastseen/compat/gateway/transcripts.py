"""Transcripts: one file of JSON lines a conversation, where the gateway has always had them.

What people said is bulk, and rewritten on `/undo` or when it is compressed; it is no business of a session's life. So
the log says who was there and when, and a transcript outlives every session that wrote to it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lastseen.compat.gateway.replace_file import replace_file
from lastseen.engine.errors import InvalidEvent, shown
from lastseen.engine.log.private_file import make_private

_logger = logging.getLogger("lastseen")
_name = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def check_conversation(session_id: object) -> str:
    """The id of a conversation, which becomes a file's name. Raises `InvalidEvent` for what could lead elsewhere."""
    if not isinstance(session_id, str) or not _name.fullmatch(session_id):
        raise InvalidEvent(
            f"session_id = {shown(session_id)}: give 1 to 128 letters, digits, `.`, `_` and `-`, the first no dot"
        )
    return session_id


class Transcripts:
    """The transcripts in a folder. Safe to call from many threads of one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def path(self, session_id: str) -> Path:
        """Where a transcript is, or will be. Raises `InvalidEvent`."""
        return self.folder / f"{check_conversation(session_id)}.jsonl"

    def append(self, session_id: str, message: dict[str, Any]) -> None:
        """Add a message. A disk that cannot take it is warned of, and keeps no message from being answered."""
        line = _line(message)
        path = self.path(session_id)
        try:
            make_private(path)
            with self._lock, path.open("ab+") as file:
                # A crash may have left half a line, which must not take this one with it.
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    line = b"\n" + line
                file.write(line)
        except OSError as error:
            _logger.warning("a message of transcript %s was not written: %s", path, error)

    def rewrite(self, session_id: str, messages: Sequence[dict[str, Any]]) -> None:
        """Put these messages in the place of all, or fail with an `OSError` and leave them as they were."""
        lines = b"".join(map(_line, messages))
        path = self.path(session_id)
        with self._lock:
            replace_file(path, lines)

    def load(self, session_id: str) -> list[dict[str, Any]]:
        """All messages, oldest first; none where there is no transcript. A line that is no JSON is passed over."""
        path = self.path(session_id)
        messages = []
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return []
        for number, line in enumerate(text.split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                messages.append(json.loads(line))
            except ValueError:
                _logger.warning("transcript %s: line %d is not JSON and is skipped", path, number)
        return messages

    def has_any(self, session_id: str) -> bool:
        """Whether anything was said."""
        try:
            return self.path(session_id).stat().st_size > 0
        except (OSError, InvalidEvent):
            return False


def _line(message: dict[str, Any]) -> bytes:
    try:
        return json.dumps(message, ensure_ascii=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say and UTF-8 cannot
        return json.dumps(message).encode("ascii") + b"\n"

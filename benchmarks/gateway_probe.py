"""The session store of `hermes-agent`, unpacked: run by itself, in an environment that has nothing else of ours.

Given the folder of the unpacked wheel and the folder of the store. It reads lines, and answers each with JSON: `fill N`
makes N sessions, every other one not used for 100 days; `touch N` is a message of one of them, answered with seconds;
`prune DAYS` with how many went, and seconds; `restart N` with the seconds that a new store takes to answer for one.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])

from gateway.config import GatewayConfig, Platform, SessionResetPolicy
from gateway.session import SessionEntry, SessionSource, SessionStore, build_session_key


class Store:
    """The store itself, nothing of it changed; only its first sessions are put into it at once and not one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: Any = self._open()

    def _open(self) -> Any:
        config = GatewayConfig(sessions_dir=self.folder, default_reset_policy=SessionResetPolicy(mode="none"))
        return SessionStore(self.folder, config)

    def fill(self, sessions: int) -> int:
        """So many sessions, and their file."""
        self.store._ensure_loaded()
        now = datetime.now()  # noqa: DTZ005 - its times have no zone
        for number in range(sessions):
            source = _source(number)
            used = now - timedelta(days=100 if number % 2 else 1)
            entry = SessionEntry(
                session_key=build_session_key(source), session_id=f"20250101_000000_{number:08x}",
                created_at=used - timedelta(days=1), updated_at=used, origin=source, platform=Platform.TELEGRAM,
            )  # fmt: skip
            self.store._entries[entry.session_key] = entry
        self.store._save()
        return len(self.store._entries)

    def touch(self, number: int) -> float:
        """A message of a session: what the gateway calls for each. Its session must not change."""
        source = _source(number)
        before = self.store._entries[build_session_key(source)].session_id
        started = time.perf_counter()
        entry = self.store.get_or_create_session(source)
        spent = time.perf_counter() - started
        if entry.session_id != before:
            raise LookupError(f"session {number} was reset")
        return spent

    def prune(self, days: int) -> list[float]:
        """How many were dropped, and how long it took."""
        started = time.perf_counter()
        removed = self.store.prune_old_entries(days)
        return [removed, time.perf_counter() - started]

    def restart(self, number: int) -> float:
        """How long a new store takes to know a session."""
        started = time.perf_counter()
        store = self._open()
        store._ensure_loaded()
        found = store._entries[build_session_key(_source(number))]
        spent = time.perf_counter() - started
        if not found.session_id:
            raise LookupError(f"session {number} is not there")
        return spent


def _source(number: int) -> Any:
    return SessionSource(
        platform=Platform.TELEGRAM, chat_id=str(10_000_000 + number), user_id=str(number), user_name=f"User {number}"
    )


def main(folder: str) -> None:
    """Answer lines until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what the store says goes elsewhere
    store = Store(Path(folder))
    _say(answers, SessionStore.__module__)
    for line in sys.stdin:
        what, given = line.split()
        _say(answers, getattr(store, what)(int(given)))


def _say(answers: Any, what: object) -> None:
    answers.write(f"{json.dumps(what)}\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[2])

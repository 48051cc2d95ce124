"""The gateway's way before and now: every message rewrites a JSON file of all sessions, or appends one record.

The stand-in does what the old store did for each message, and nothing else: all entries made into dictionaries, written
with an indent of two to a file beside the old one, flushed to the disk, and put in the old one's place. What it spends
on locks, policies and its second database is left out, in its favour.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, at_most, interleaved, seconds
from lastseen.compat.gateway import GatewayConfig, Platform, SessionResetPolicy, SessionSource, SessionStore
from lastseen.compat.gateway_import import import_sessions

SESSIONS = 100_000
TOUCHES = 500
DAY = timedelta(days=1)


@dataclass
class OldEntry:
    """What the old store kept of a session."""

    session_key: str
    session_id: str
    created_at: datetime
    updated_at: datetime
    origin: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The entry as it was written."""
        return {
            "session_key": self.session_key, "session_id": self.session_id,
            "created_at": self.created_at.isoformat(), "updated_at": self.updated_at.isoformat(),
            "display_name": None, "platform": "telegram", "chat_type": "dm", "input_tokens": 0, "output_tokens": 0,
            "cache_read_tokens": 0, "cache_write_tokens": 0, "total_tokens": 0, "last_prompt_tokens": 0,
            "estimated_cost_usd": 0.0, "cost_status": "unknown", "expiry_finalized": False, "suspended": False,
            "resume_pending": False, "resume_reason": None, "last_resume_marked_at": None, "is_fresh_reset": False,
            "origin": self.origin,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> OldEntry:
        """The entry that was written."""
        created, updated = (datetime.fromisoformat(plain[name]) for name in ("created_at", "updated_at"))
        return cls(plain["session_key"], plain["session_id"], created, updated, dict(plain["origin"]))


class OldStore:
    """The old way: a dictionary of entries, and a file that is rewritten."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sessions.json"
        self.entries: dict[str, OldEntry] = {}
        if self.path.exists():
            with self.path.open(encoding="utf-8") as file:
                self.entries = {key: OldEntry.from_dict(entry) for key, entry in json.load(file).items()}

    def save(self) -> None:
        """Rewrite the file, for a power loss to find it whole."""
        plain = {key: entry.to_dict() for key, entry in self.entries.items()}
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".sessions_", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(plain, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self.path)

    def touch(self, key: str) -> None:
        """A message: the entry's time, and the file."""
        self.entries[key].updated_at = datetime.now(UTC)
        self.save()

    def prune(self, before: datetime) -> int:
        """Drop what was not used since, and rewrite the file once."""
        old = [key for key, entry in self.entries.items() if entry.updated_at < before]
        for key in old:
            del self.entries[key]
        self.save()
        return len(old)


def source_of(number: int) -> SessionSource:
    """Where the messages of a session come from."""
    return SessionSource(Platform.TELEGRAM, str(10_000_000 + number), user_id=str(number), user_name=f"User {number}")


def key_of(number: int) -> str:
    """Its key."""
    return f"agent:main:telegram:dm:{10_000_000 + number}"


def fill(old: OldStore, sessions: int, now: datetime) -> None:
    """So many sessions, every other one not used for 100 days."""
    for number in range(sessions):
        used, session_id = now - (100 * DAY if number % 2 else DAY), f"20250101_000000_{number:08x}"
        old.entries[key_of(number)] = OldEntry(
            key_of(number), session_id, used - DAY, used, source_of(number).to_dict()
        )
    old.save()


class NewStore:
    """The new way, on the sessions of an old store."""

    def __init__(self, folder: Path, old: OldStore) -> None:
        self._folder = folder
        self._url = f"sqlite:///{folder / 'gateway.db'}"
        self.import_s = seconds(lambda: import_sessions(old.path, self._url))
        self.restart(0)  # the first start after an import folds it

    def open(self, number: int) -> SessionStore:
        """The store, once it has answered for a session."""
        config = GatewayConfig(sessions_dir=self._folder, default_reset_policy=SessionResetPolicy("none"))
        store = SessionStore(self._folder, config, url=self._url)
        assert store._entries[key_of(number)].session_key == key_of(number)
        return store

    def restart(self, number: int) -> float:
        """Seconds from the start to the first answer."""
        started = time.perf_counter()
        store = self.open(number)
        spent = time.perf_counter() - started
        store.close()
        return spent


def run(folder: Path, repetitions: int, sessions: int = SESSIONS) -> list[Row]:
    """A touch, a prune of half, and a restart, both ways, on the same sessions."""
    now, old = datetime.now(UTC), OldStore(folder)
    fill(old, sessions, now)
    new = NewStore(folder, old)
    restarts = interleaved(repetitions, old=lambda: seconds(lambda: OldStore(folder)), new=lambda: new.restart(2))
    with new.open(0) as store:
        sources = [source_of(number * 2 * (sessions // 2 // TOUCHES)) for number in range(TOUCHES)]
        touches = interleaved(
            repetitions,
            old=lambda: seconds(lambda: old.touch(key_of(0))),
            new=lambda: seconds(lambda: [store.get_or_create_session(source) for source in sources]) / TOUCHES,
        )
        prune_new = _prune(lambda: store.prune_old_entries(90), sessions // 2)
        assert len(store.list_sessions()) == sessions - sessions // 2
    prune_old = _prune(lambda: old.prune(now - 90 * DAY), sessions // 2)
    return [
        _times("a durable touch", touches, 1_000),
        _times("half of them pruned", {"old": [prune_old], "new": [prune_new]}),
        _times("restart to the first answer", restarts),
        at_most(f"gateway, {sessions:,} sessions brought over", [new.import_s], "s", 60),
    ]


def _prune(prune: Callable[[], int], expected: int) -> float:
    counts: list[int] = []
    spent = seconds(lambda: counts.append(prune()))
    assert counts == [expected]
    return spent


def _times(what: str, samples: dict[str, list[float]], at_least: float = 0) -> Row:
    """How many times as fast the new way is, pair by pair."""
    pairs = [old / new for old, new in zip(samples["old"], samples["new"], strict=True)]
    median = statistics.median(pairs)
    old, new = (statistics.median(samples[name]) * 1e3 for name in ("old", "new"))
    return Row(
        f"gateway: {what} / the old way", median, "× as fast", f"≥ {at_least:,g}" if at_least else "",
        median >= at_least, (min(pairs), max(pairs)), f"{new:,.2f} ms against {old:,.0f} ms", samples,
    )  # fmt: skip

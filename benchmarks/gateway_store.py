"""The old gateway's store, as a peer: the real one in a process of its own, and a stand-in where it cannot be had."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from benchmarks.measure import seconds
from benchmarks.probe import Probe
from benchmarks.unpacked import HERMES_AGENT, environment, unpacked
from lastseen.compat.gateway import Platform, SessionSource

PROBE = Path(__file__).parent / "gateway_probe.py"
DAY = timedelta(days=1)


class GatewayStore(Protocol):
    """A store of the old way, filled with sessions of which every other one was not used for 100 days."""

    path: Path
    """Its sessions.json."""
    name: str

    def touch(self, number: int) -> float:
        """A message of a session: seconds."""

    def prune(self, days: int) -> tuple[int, float]:
        """Drop what was not used for so long: how many they were, and seconds."""

    def restart(self, number: int) -> float:
        """Seconds until a new store knows a session."""

    def close(self) -> None:
        """Give back what it holds."""


def source_of(number: int) -> SessionSource:
    """Where the messages of a session come from."""
    return SessionSource(Platform.TELEGRAM, str(10_000_000 + number), user_id=str(number), user_name=f"User {number}")


def key_of(number: int) -> str:
    """Its key."""
    return f"agent:main:telegram:dm:{10_000_000 + number}"


class RealStore:
    """`gateway.session.SessionStore` of the unpacked wheel, in a process of its own. Raises `PeerMissing`."""

    name = f"{HERMES_AGENT.name} {HERMES_AGENT.version}"

    def __init__(self, folder: Path, sessions: int) -> None:
        wheel, python = unpacked(), environment()
        self.path = folder / "sessions.json"
        # It keeps its own database in its home; no user's real home is touched.
        home = folder / "home"
        home.mkdir(parents=True)
        env = {**os.environ, "HERMES_HOME": str(home), "HOME": str(home)}
        self.probe = Probe(HERMES_AGENT.name, [python, PROBE, wheel, folder], folder / "said.txt", env)
        try:
            assert self.probe.ask("fill", sessions) == sessions
        except BaseException:
            self.close()
            raise

    def touch(self, number: int) -> float:
        """`get_or_create_session`, which rewrites the file."""
        return float(self.probe.ask("touch", number))

    def prune(self, days: int) -> tuple[int, float]:
        """`prune_old_entries`."""
        removed, spent = self.probe.ask("prune", days)
        return int(removed), float(spent)

    def restart(self, number: int) -> float:
        """A new store in the same process: its imports are not counted."""
        return float(self.probe.ask("restart", number))

    def close(self) -> None:
        """End the process."""
        self.probe.close()


@dataclass
class Entry:
    """What the old store kept of a session, as far as the stand-in writes it."""

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
    def from_dict(cls, plain: dict[str, Any]) -> Entry:
        """The entry that was written."""
        created, updated = (datetime.fromisoformat(plain[name]) for name in ("created_at", "updated_at"))
        return cls(plain["session_key"], plain["session_id"], created, updated, dict(plain["origin"]))


class StandIn:
    """What the old store did for each message and nothing else, where the real one cannot be had.

    All entries are made into dictionaries, written with an indent of two to a file beside the old one, flushed to the
    disk, and put in the old one's place. What it spent on locks, policies and its database is left out, in its favour.
    """

    name = "a stand-in for it"

    def __init__(self, folder: Path, sessions: int) -> None:
        self.path = folder / "sessions.json"
        self.entries: dict[str, Entry] = {}
        now = datetime.now(UTC)
        for number in range(sessions):
            used, session_id = now - (100 * DAY if number % 2 else DAY), f"20250101_000000_{number:08x}"
            origin = source_of(number).to_dict()
            self.entries[key_of(number)] = Entry(key_of(number), session_id, used - DAY, used, origin)
        self._save()

    def touch(self, number: int) -> float:
        """The entry's time, and the file."""
        started = time.perf_counter()
        self.entries[key_of(number)].updated_at = datetime.now(UTC)
        self._save()
        return time.perf_counter() - started

    def prune(self, days: int) -> tuple[int, float]:
        """Drop what is old, and rewrite the file once."""
        started = time.perf_counter()
        old = [key for key, entry in self.entries.items() if entry.updated_at < datetime.now(UTC) - days * DAY]
        for key in old:
            del self.entries[key]
        self._save()
        return len(old), time.perf_counter() - started

    def restart(self, number: int) -> float:
        """Read the file."""
        entries: dict[str, Entry] = {}

        def read() -> None:
            with self.path.open(encoding="utf-8") as file:
                entries.update((key, Entry.from_dict(plain)) for key, plain in json.load(file).items())

        spent = seconds(read)
        assert key_of(number) in entries
        return spent

    def close(self) -> None:
        """It holds nothing."""

    def _save(self) -> None:
        plain = {key: entry.to_dict() for key, entry in self.entries.items()}
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".sessions_", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(plain, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self.path)

"""What the tests of the gateway's store stand on: a store on a manual clock, and the sources of its messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lastseen
from lastseen.compat.gateway import GatewayConfig, Platform, SessionResetPolicy, SessionSource, SessionStore

T0 = 1_700_000_000_000
"""2023-11-14T22:13:20Z, a Tuesday."""
MIN, HOUR, DAY = 60_000, 3_600_000, 86_400_000
KEY = "agent:main:telegram:dm:42"
NEVER = SessionResetPolicy("none")


def source(chat_id: str = "42", **other: Any) -> SessionSource:
    """A direct message on Telegram, unless it is said otherwise."""
    return SessionSource(**{"platform": Platform.TELEGRAM, "chat_id": chat_id, "user_id": f"user-{chat_id}", **other})


class GatewayStage:
    """A folder, a clock, and the processes that work for sessions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = lastseen.ManualClock(T0)
        self.busy: set[str] = set()
        self.asked: list[str] = []
        self.fails = False
        """Whether asking for processes fails."""
        self.opened: list[SessionStore] = []

    def is_busy(self, session_key: str) -> bool:
        """The gateway's answer."""
        self.asked.append(session_key)
        if self.fails:
            raise RuntimeError("the process registry is down")
        return session_key in self.busy

    def open(
        self, policy: SessionResetPolicy = NEVER, *, quick: bool = True, sessions_json: bool = False, **config: Any
    ) -> SessionStore:
        """A store; on its own file in the folder if not `quick`, else in memory."""
        engine = lastseen.open_engine("memory://", clock=self.clock, background=False) if quick else None
        store = SessionStore(
            self.folder,
            GatewayConfig(default_reset_policy=policy, sessions_dir=self.folder, **config),
            self.is_busy,
            engine=engine,
            clock=self.clock,
            sessions_json=sessions_json,
        )
        self.opened.append(store)
        return store

    def close(self) -> None:
        """Close every store, and the engines that were lent to them."""
        for store in self.opened:
            store.close()
            store.engine.shutdown()


def records(store: SessionStore) -> int:
    """How many records the store's log has after its genesis record."""
    return sum(store.engine._log.end_offsets()) - 1

"""A worker that leaks what the soak is there to find: it must be found."""

from __future__ import annotations

import os
import threading
from multiprocessing.connection import Connection
from typing import Any

from tests.soak import worker
from tests.soak.traffic import Visitor

LEAKED_BYTES = 100_000
kept: list[Any] = []


def live(pipe: Connection, url: str, settings: dict[str, Any], callers: int, seed: int) -> None:
    """As `worker.live`; each call leaks memory, and some a descriptor and a thread."""
    act = Visitor.act

    def act_and_leak(visitor: Visitor) -> None:
        kept.append(os.urandom(LEAKED_BYTES))
        if len(kept) % 20 == 0:
            kept.append(os.open(os.devnull, os.O_RDONLY))
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        act(visitor)

    Visitor.act = act_and_leak  # type: ignore[method-assign]
    worker.live(pipe, url, settings, callers, seed)

"""The gateway's watcher: prunes when it first ticks, and hourly from then on."""

from __future__ import annotations

import asyncio
import logging

from lastseen.compat.gateway.store import SessionStore
from lastseen.engine.errors import LastseenError

_logger = logging.getLogger("lastseen")
PRUNE_EVERY_MS = 3_600_000
TICK_EVERY_S = 300.0


class ExpiryWatcher:
    """Prunes a store by its configuration's `session_store_max_age_days`.

    Needs no lock: what it ends it names by version, so a session that is used meanwhile lives on, and two watchers on
    one log only do each other's work.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._pruned_at_ms: int | None = None

    def tick(self) -> int:
        """Prune if it is time; returns how many sessions that ended. Never raises for the log: the next tick tries."""
        now_ms = self._store.clock.now_ms()
        # A clock that was put back must not put pruning off.
        if self._pruned_at_ms is not None and 0 <= now_ms - self._pruned_at_ms <= PRUNE_EVERY_MS:
            return 0
        try:
            pruned = self._store.prune_old_entries(self._store.config.session_store_max_age_days)
        except LastseenError as error:
            _logger.warning("sessions were not pruned, the next tick retries: %s", error)
            return 0
        self._pruned_at_ms = now_ms
        return pruned

    async def run(self, interval_s: float = TICK_EVERY_S) -> None:
        """Tick, and wait, until this task is cancelled."""
        while True:
            await asyncio.to_thread(self.tick)
            await asyncio.sleep(interval_s)

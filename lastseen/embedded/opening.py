"""`open_engine`: where the library is entered."""

from __future__ import annotations

from typing import Any

from lastseen.embedded.engine import Engine
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.settings import Settings
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.log import open_log


def open_engine(
    url: str = "sqlite:///lastseen.db", *, clock: Clock | None = None, progress: Progress | None = None, **settings: Any
) -> Engine:
    """Open an engine on a log: `sqlite:///path` (made if it is not there), `memory://`, or `kafka://host:9092/topic`.

    `settings` are those of `lastseen.Settings`. `clock` is for tests. `progress` is called while the log is read.
    Raises errors of `lastseen.errors`.
    """
    chosen = Settings.of(**settings)
    clock = clock or SystemClock()
    log = open_log(url, clock, partitions=chosen.partitions)
    try:
        return Engine(log, clock, chosen, progress)
    except BaseException:
        log.close()
        raise

"""`open_engine`: the door of the library."""

from __future__ import annotations

from typing import Any

from engine.clock import Clock, SystemClock
from engine.log import open_log
from lastseen.app import Engine, Progress
from lastseen.config import Settings


def open_engine(
    url: str = "sqlite:///lastseen.db", *, clock: Clock | None = None, progress: Progress | None = None, **settings: Any
) -> Engine:
    """Open an engine on a log: `sqlite:///path` (made if it is not there), `memory://`, or `kafka://host:9092/topic`.

    `settings` are those of `lastseen.Settings`. `clock` is for tests. `progress` is told how far the log is read.
    Raises errors of `lastseen.errors`.
    """
    chosen = Settings.of(**settings)
    clock = clock or SystemClock()
    options = {} if chosen.partitions is None else {"partitions": chosen.partitions}
    log = open_log(url, clock, **options)
    try:
        return Engine(log, clock, chosen, progress)
    except BaseException:
        log.close()
        raise

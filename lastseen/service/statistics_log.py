"""The figures of a running service, as a log line every so often."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lastseen.embedded.engine import Engine
from lastseen.monitoring.statistics_line import statistics_line

_logger = logging.getLogger("lastseen.statistics")


@contextmanager
def statistics_logged(engine: Engine, every_s: float | None) -> Iterator[None]:
    """Meanwhile log the engine's figures every so many seconds; never, if that is `None`."""
    if every_s is None:
        yield
        return
    ended = threading.Event()

    def log() -> None:
        while not ended.wait(every_s):
            try:
                _logger.info("statistics", extra=statistics_line(engine))
            except Exception:
                _logger.exception("the figures could not be read: they are retried")

    thread = threading.Thread(target=log, name="lastseen-statistics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

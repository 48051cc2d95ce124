"""An engine in a container: it follows the log LASTSEEN_LOG, ends what is due and tells others, until SIGTERM.

Its snapshot is in the working folder. With `--is-healthy` it says, by its exit code, whether the engine that runs in
this folder works.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import lastseen

_MARK = Path("healthy")
_MARK_EVERY_S = 2.0
_STALE_AFTER_S = 15.0
_REPORT_EVERY_S = 60.0


def run(url: str) -> None:
    """Keep an engine open until SIGTERM or SIGINT, and mark every moment in which nothing is wrong with it."""
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    _MARK.unlink(missing_ok=True)
    source = os.environ.get("LASTSEEN_SOURCE", "/lastseen")
    next_report_s = time.monotonic()
    with lastseen.open_engine(url, snapshot="snapshot.db", source=source) as engine:
        while not asked_to_stop.wait(_MARK_EVERY_S):
            failures = engine.health()
            for thread, failure in failures.items():
                _tell({"failing": thread, "because": str(failure)})
            if not failures:
                _MARK.touch()
            if time.monotonic() >= next_report_s:
                next_report_s += _REPORT_EVERY_S
                _tell(engine.statistics())
    _MARK.unlink(missing_ok=True)


def is_healthy() -> bool:
    """Whether an engine in this folder was well a moment ago."""
    return _MARK.exists() and time.time() - _MARK.stat().st_mtime < _STALE_AFTER_S


def _tell(what: dict[str, object]) -> None:
    print(json.dumps(what, default=str), flush=True)  # noqa: T201 - a container's log


if __name__ == "__main__":
    if sys.argv[1:] == ["--is-healthy"]:
        sys.exit(0 if is_healthy() else 1)
    run(os.environ["LASTSEEN_LOG"])

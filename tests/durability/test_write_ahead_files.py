"""The write-ahead files of a log, a snapshot and a history shrink again after a peak, while the engine runs."""

from __future__ import annotations

from pathlib import Path

import lastseen
from lastseen.engine.log.sqlite_files import WAL_LIMIT_BYTES

SIDES = ("", ".snapshot", ".history")
MESSAGE = "x" * 60_000


def test_write_ahead_files_shrink_after_a_peak(tmp_path: Path) -> None:
    log = tmp_path / "log.db"

    def sizes() -> dict[str, int]:
        return {side: Path(f"{log}{side}-wal").stat().st_size for side in SIDES}

    with lastseen.open_engine(f"sqlite:///{log}", background=False) as engine:
        keys = [f"chat:{number}" for number in range(400)]
        for key in keys:
            engine.open(key)
            engine.touch(key, message=MESSAGE)
        engine.flush()  # all of them in one transaction
        peak = sizes()
        for key in keys[:20]:
            engine.touch(key, message=MESSAGE)
            engine.flush()
        after = sizes()
    assert max(peak.values()) > WAL_LIMIT_BYTES, "there was no peak to shrink from"
    assert max(after.values()) <= WAL_LIMIT_BYTES, (peak, after)

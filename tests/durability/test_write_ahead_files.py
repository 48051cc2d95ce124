"""Write-ahead files shrink again after a peak, while the log, the snapshot or the history is in use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import lastseen
from lastseen import ManualClock
from lastseen.engine.log.port import Message
from lastseen.engine.log.sqlite.log import SqliteLog
from lastseen.engine.log.sqlite_files import WAL_LIMIT_BYTES

BULK = b"x" * 60_000
PEAK_RECORDS = 5 * WAL_LIMIT_BYTES // len(BULK)
SLACK_BYTES = 1 << 20
"""A transaction may pass the limit, and the file keeps that until the next checkpoint."""


def peak_then_little(write: Callable[[int], None], wal: Path) -> tuple[int, int]:
    """The size of a write-ahead file after one large transaction, and after twenty small ones."""
    write(PEAK_RECORDS)
    peak = wal.stat().st_size
    for _ in range(20):
        write(1)
    return peak, wal.stat().st_size


def test_that_of_a_log(tmp_path: Path) -> None:
    log = SqliteLog(str(tmp_path / "log.db"), ManualClock())
    try:
        peak, after = peak_then_little(
            lambda count: (log.append([Message(0, "chat:1", BULK)] * count), None)[1], tmp_path / "log.db-wal"
        )
    finally:
        log.close()
    assert peak > 2 * WAL_LIMIT_BYTES, "there was no peak to shrink from"
    assert after <= WAL_LIMIT_BYTES + SLACK_BYTES


@pytest.mark.parametrize("side", ["snapshot", "history"])
def test_that_of_a_file_that_an_engine_flushes(tmp_path: Path, side: str) -> None:
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'log.db'}", background=False) as engine:
        touches = 1 if side == "snapshot" else 150
        made = 0

        def write(count: int) -> None:
            nonlocal made
            for _ in range(count):
                made += 1
                key = f"chat:{made}"
                engine.open(key, attributes={"owner": "o" * 200})
                if side == "snapshot":
                    engine.touch(key, message=BULK.decode())
            for _ in range(touches if count > 1 else 0):
                engine.touch_many([f"chat:{number}" for number in range(1, made + 1)])
            engine.flush()

        peak, after = peak_then_little(write, tmp_path / f"log.db.{side}-wal")
    assert peak > WAL_LIMIT_BYTES + SLACK_BYTES, "there was no peak to shrink from"
    assert after <= WAL_LIMIT_BYTES + SLACK_BYTES

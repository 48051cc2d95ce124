"""What the number of live sessions costs: an expiry, a restart."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lastseen
from benchmarks.measure import Row, at_most, interleaved, rate, seconds
from benchmarks.workload import fill, touches
from engine.clock import ManualClock
from engine.log.sql import SqliteLog
from engine.session import Policy
from projections.partition import Partition

FEW = 10_000
DUE = 100_000
POLICY = Policy(idle_ttl_ms=1_800_000)


def _engine(url: str, clock: ManualClock, **settings: Any) -> lastseen.Engine:
    return lastseen.open_engine(url, clock=clock, background=False, **settings)


def expiry(folder: Path, many: int, due: int) -> list[Row]:
    """So many of so many sessions fall due at once after a restart: announced, on the disk, and folded."""
    clock = ManualClock()
    engine = _engine(f"sqlite:///{folder / 'expiry.db'}", clock)
    fill(engine._log, due, clock.now_ms(), POLICY)
    clock.advance(60_000)
    fill(engine._log, many - due, clock.now_ms(), POLICY, first=due)
    engine.refresh()
    engine.shutdown()
    clock.advance(1_800_000 - 60_001)
    engine = _engine(f"sqlite:///{folder / 'expiry.db'}", clock, freeze=True)
    clock.advance(1)
    plans = []
    spent = seconds(lambda: plans.append(engine.prune()))
    assert len(plans[0].due) == due
    assert engine.count() == many - due
    engine.shutdown()
    gc.unfreeze()
    return [at_most(f"{due:,} due of {many:,}: announced, on disk, folded", [spent], "s", 2.0)]


def refold(folder: Path, repetitions: int) -> list[Row]:
    """Fold a log of touches from its file."""
    clock = ManualClock()
    log = SqliteLog(str(folder / "refold.db"), clock)
    session_ids = fill(log, FEW, clock.now_ms(), POLICY)
    events = 300_000
    touches(log, session_ids, events - FEW, clock.now_ms())
    log.close()
    log = SqliteLog(str(folder / "refold.db"), clock)

    def once() -> float:
        partition = Partition(0)
        started = time.perf_counter()
        while records := log.read(0, partition.checkpoint, 5_000):
            for record in records:
                partition.fold(record)
        assert partition.checkpoint == events
        return events / (time.perf_counter() - started)

    samples = interleaved(repetitions, refold=once)
    log.close()
    return [rate("refold from SQLite, one process", samples["refold"], 100_000)]


def restart(folder: Path, many: int, repetitions: int) -> list[Row]:
    """Open an engine on a snapshot of so many live sessions, in a new process, to its first answer."""
    clock = ManualClock(int(time.time() * 1000))
    url = f"sqlite:///{folder / 'restart.db'}"
    engine = _engine(url, clock)
    fill(engine._log, many, clock.now_ms(), Policy(idle_ttl_ms=86_400_000))
    engine.refresh()
    engine.shutdown()
    script = (
        "import time, sys; import lastseen; from benchmarks.workload import key_of; start = time.perf_counter();"
        f"engine = lastseen.open_engine({url!r}, background=False);"
        f"assert engine.get(key_of({many - 1})) is not None;"
        "print(time.perf_counter() - start); engine.shutdown()"
    )
    values = [
        float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
        for _ in range(repetitions)
    ]
    return [at_most(f"restart with a snapshot of {many:,} sessions, to the first answer", values, "s", 6.0)]

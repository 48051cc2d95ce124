"""What the number of live sessions costs: a touch, a pruner pass, an expiry, a restart, memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lastseen
from benchmarks.measure import Row, at_most, interleaved, rate, seconds
from benchmarks.workload import fill, key_of, touches
from engine.clock import ManualClock
from engine.log.sql import SqliteLog
from engine.session import Policy
from projections.partition import Partition

FEW, MANY = 10_000, 1_000_000
TOUCHES = 20_000
DUE = 100_000
POLICY = Policy(idle_ttl_ms=1_800_000)


def _engine(url: str, clock: ManualClock, **settings: Any) -> lastseen.Engine:
    return lastseen.open_engine(url, clock=clock, background=False, **settings)


def touch_cost(engine: lastseen.Engine, sessions: int) -> float:
    """Microseconds for a touch that does not wait for a disk, spread over all sessions."""
    step = max(sessions // TOUCHES, 1)
    keys = [key_of(number * step % sessions) for number in range(TOUCHES)]
    spent = seconds(lambda: [engine.touch(key) for key in keys])
    engine.flush()
    return spent / TOUCHES * 1e6


def live_figures(repetitions: int, many: int) -> list[Row]:
    """A touch, and a pass of the pruner with nothing due, at few and at many live sessions."""
    engines = {}
    for sessions in (FEW, many):
        clock = ManualClock()
        engine = _engine("memory://", clock)
        fill(engine._log, sessions, clock.now_ms(), POLICY)
        engine.refresh()
        engine.flush()
        engines[sessions] = engine
    gc.collect()
    samples = interleaved(
        repetitions, few=lambda: touch_cost(engines[FEW], FEW), many=lambda: touch_cost(engines[many], many)
    )
    ratios = [one / other for one, other in zip(samples["many"], samples["few"], strict=True)]
    passes = interleaved(
        repetitions * 20,
        few=lambda: seconds(engines[FEW].prune) * 1e3, many=lambda: seconds(engines[many].prune) * 1e3,
    )  # fmt: skip
    for engine in engines.values():
        engine.shutdown()
    return [
        at_most(f"touch at {many:,} live / at {FEW:,}", ratios, "×", 1.5),
        at_most(f"pruner pass, nothing of {FEW:,} due", passes["few"], "ms", 0.1),
        at_most(f"pruner pass, nothing of {many:,} due", passes["many"], "ms", 0.1),
    ]


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


def memory(many: int) -> list[Row]:
    """Resident memory that a live session takes, without its body: the process with them, less without."""
    script = f"from benchmarks import memory_probe; print(memory_probe.bytes_per_session({many}))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return [at_most(f"memory of a live session without its body, of {many:,}", [float(done.stdout)], "bytes", 600)]

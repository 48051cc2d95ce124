"""What a live session takes in memory: run in a process of its own, which holds nothing else."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from benchmarks.workload import key_of
from engine.clock import ManualClock, iso_from_ms
from engine.codec import encode
from engine.events import Created, CreatedData
from engine.identifiers import new_event_id
from engine.log.port import Record
from engine.plain_touch import written
from engine.session import Policy
from projections.partition import Partition


def _session_id(number: int) -> str:
    # As long as a real one, and not kept by the probe.
    return f"{number:022d}"


def fold_sessions(partition: Partition, clock: ManualClock, sessions: int) -> None:
    """Begin so many sessions, a millisecond apart, and touch each twice, as a server would see them."""
    for number in range(sessions):
        now_ms = clock.advance(1)
        data = CreatedData(session_id=_session_id(number), policy=Policy(idle_ttl_ms=86_400_000))
        event = Created(
            id=new_event_id(now_ms), source="/bench", subject=key_of(number), time=iso_from_ms(now_ms), data=data
        )
        partition.fold(Record(0, number, now_ms, key_of(number), encode(event)))
    for number in range(2 * sessions):
        now_ms = clock.advance(1)
        key, session_id = key_of(number % sessions), _session_id(number % sessions)
        value = written(new_event_id(now_ms), "/bench", key, iso_from_ms(now_ms), session_id)
        partition.fold(Record(0, sessions + number, now_ms, key, value))


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bytes_per_session(sessions: int) -> float:
    """Resident memory with so many live sessions, less without, by session."""
    clock = ManualClock()
    fold_sessions(Partition(0), clock, 1_000)
    gc.collect()
    partition, before = Partition(0), resident_bytes()
    fold_sessions(partition, clock, sessions)
    gc.collect()
    assert len(partition) == sessions
    return (resident_bytes() - before) / sessions

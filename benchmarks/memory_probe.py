"""Folds sessions into a partition record by record, keeping nothing else: for measuring what they take in memory."""

from __future__ import annotations

from benchmarks.workload import key_of
from engine.clock import ManualClock, iso_from_ms
from engine.codec import encode
from engine.events import Created, CreatedData
from engine.identifiers import new_event_id, new_session_id
from engine.log.port import Record
from engine.plain_touch import written
from engine.session import Policy
from projections.partition import Partition


def fold_sessions(partition: Partition, clock: ManualClock, sessions: int) -> None:
    """Begin so many sessions, a millisecond apart, and touch each twice, as a server would see them."""
    session_ids = []
    for number in range(sessions):
        now_ms = clock.advance(1)
        session_ids.append(new_session_id())
        data = CreatedData(session_id=session_ids[-1], policy=Policy(idle_ttl_ms=86_400_000))
        event = Created(
            id=new_event_id(now_ms), source="/bench", subject=key_of(number), time=iso_from_ms(now_ms), data=data
        )
        partition.fold(Record(0, number, now_ms, key_of(number), encode(event)))
    for number in range(2 * sessions):
        now_ms = clock.advance(1)
        key, session_id = key_of(number % sessions), session_ids[number % sessions]
        value = written(new_event_id(now_ms), "/bench", key, iso_from_ms(now_ms), session_id)
        partition.fold(Record(0, sessions + number, now_ms, key, value))

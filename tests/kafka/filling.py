"""Partitions filled with many records, as fast as a broker takes them."""

from __future__ import annotations

import lastseen
from lastseen.engine import plain_touch
from lastseen.engine.clock import SystemClock, iso_from_ms
from lastseen.engine.identifiers import new_event_ids
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Message
from lastseen.engine.partitioner import partition_of


def fill(url: str, partitions: int, count: int) -> list[str]:
    """Append so many touches of one session to each partition; the keys."""
    keys = [
        next(f"big-{n}" for n in range(1_000) if partition_of(f"big-{n}", partitions) == partition)
        for partition in range(partitions)
    ]
    with lastseen.open_engine(url, prune=False, facts=False, background=False) as engine:
        ids = {key: engine.open(key).session_id for key in keys}
    log, clock = open_log(url, SystemClock()), SystemClock()
    try:
        for start in range(0, count, 5_000):
            for partition, key in enumerate(keys):
                now_ms = clock.now_ms()
                touches = [
                    plain_touch.written(event_id, "/filler", key, iso_from_ms(now_ms), ids[key])
                    for event_id in new_event_ids(now_ms, min(5_000, count - start))
                ]
                log.append([Message(partition, key, touch) for touch in touches])
    finally:
        log.close()
    return keys

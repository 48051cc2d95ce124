"""What the log says of a soak, folded anew in a process that has taken no part in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import lastseen
from lastseen.engine.clock import SystemClock
from lastseen.engine.log import open_log
from lastseen.projections.partition import Partition

PAGE = 2_048
Checkpoints = dict[int, tuple[int, str]]


def differences(url: str, wanted: Sequence[Checkpoints]) -> list[str]:
    """Fold each partition from its beginning, once; sentences on each digest that is another, and on double ends."""
    found, log = [], open_log(url, SystemClock())
    try:
        for number in range(log.partitions):
            partition, digests = Partition(number), {}
            ends: Counter[str] = Counter()
            points = {each[number][0] for each in wanted}
            while partition.checkpoint < max(points) and (records := log.read(number, partition.checkpoint, PAGE)):
                for record in records:
                    outcome = partition.fold(record)
                    if outcome.ended is not None:
                        ends[outcome.ended.session_id] += 1
                    if partition.checkpoint in points:
                        digests[partition.checkpoint] = partition.digest.hex()
            for each in wanted:
                checkpoint, digest = each[number]
                if checkpoint and digests.get(checkpoint) != digest:
                    found.append(
                        f"partition {number} up to {checkpoint}: {digest}, and refolded {digests.get(checkpoint)}"
                    )
            twice = [session_id for session_id, count in ends.items() if count > 1]
            if twice:
                found.append(f"partition {number}: {len(twice)} sessions ended twice, such as {twice[0]}")
    finally:
        log.close()
    return found


def refold(pipe: Connection, url: str, wanted: list[Checkpoints], settings: dict[str, Any]) -> None:
    """Answer with what differs: what the processes folded, and what a start from the snapshot gives, from the log."""
    engine = lastseen.open_engine(url, background=False, **settings)
    restarted, notes = engine.checkpoints(), list(engine.notes)
    engine.shutdown()
    pipe.send([*notes, *differences(url, [*wanted, restarted])])

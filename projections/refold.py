"""The fold, done again: the log is the truth, and whatever was folded from it must be what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lastseen.engine.log.port import Log
from lastseen.projections.partition import Partition

PAGE = 2_048


def differences(
    log: Log, wanted: Mapping[int, tuple[int, bytes]], progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Fold each partition again up to its checkpoint, and compare digests; sentences on those that differ.

    `wanted` has the checkpoint and the digest of each partition. Raises the log's errors.
    """
    found, folded, total = [], 0, sum(checkpoint for checkpoint, _ in wanted.values())
    for number, (checkpoint, digest) in sorted(wanted.items()):
        partition = Partition(number)
        while partition.checkpoint < checkpoint:
            records = log.read(number, partition.checkpoint, min(PAGE, checkpoint - partition.checkpoint))
            if not records:
                found.append(f"partition {number}: the log ends at {partition.checkpoint}, and {checkpoint} are folded")
                break
            for record in records:
                partition.fold(record)
            folded += len(records)
            if progress is not None:
                progress(folded, total)
        else:
            if partition.digest != digest:
                found.append(
                    f"partition {number}: the log's records up to {checkpoint} give the digest {partition.digest.hex()}"
                    f" and {digest.hex()} is what was folded: restart from the log, without the snapshot"
                )
    return found

"""Copying a log: the history of one becomes that of another, with its times, into any number of partitions.

Theory of operation. The plan of a copy (`copy_plan`) is the same whenever it is made, up to the ends that the source
had when the copy began; the copy's first record names them. So there is one way to begin and to continue: make the plan
from its first record; records that the target already holds must be the same bytes, and the rest is appended. Then the
target is read back and folded, and compared with the source.

The target's partitions are open for import until their last record; after that its own clock counts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lastseen.bulk.ordered_pages import ReadableLog, records
from lastseen.bulk.resumable_writer import ResumableWriter, foreign
from lastseen.copying.comparison import (
    Difference,
    Folded,
    Ledger,
    ending_differences,
    ending_lines,
    session_differences,
    statistic_differences,
)
from lastseen.copying.copy_plan import CopyFigures, CopyPlan, opening_of
from lastseen.embedded.maintenance import Progress
from lastseen.embedded.offline import existing_log_path
from lastseen.engine import lifecycle
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.errors import InvalidSetting
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Log
from lastseen.engine.log.urls import split_url
from lastseen.projections.partition import Outcome, Partition

PROGRESS_EVERY = 4_096
MOST_NAMED = 10
"""How many differences of one kind are listed; the others are only counted."""


@dataclass(frozen=True, slots=True)
class Copied:
    """The result of a copy, and of this run of it."""

    figures: CopyFigures
    partitions: tuple[int, int]
    """Of the source and of the target."""
    live: int
    """Sessions that live at the end of what was copied."""
    written: int
    """Records that the target holds, the marks of the import included."""
    found: int
    """Records that the target held before this run."""
    later: int
    """Records appended to the source since the copy began; they are not in it."""
    is_open: bool
    """Whether the target is still open for import."""
    differences: list[Difference] = field(default_factory=list)
    """The first differences between the copy, read back, and the source."""
    differing: int = 0
    """How many there are."""
    seconds: float = 0.0
    verifying_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        copying_s = self.seconds - self.verifying_seconds
        return self.figures.as_dict() | {
            "ok": not self.differing,
            "partitions": {"source": self.partitions[0], "copy": self.partitions[1]},
            "live": self.live,
            "records_in_copy": self.written,
            "records_appended": self.written - self.found,
            "records_not_copied_yet": self.later,
            "open_for_import": self.is_open,
            "differing": self.differing,
            "differences": [each._asdict() for each in self.differences],
            "seconds": round(self.seconds, 3),
            "records_per_second_copied": round(self.figures.records / copying_s) if copying_s else 0,
            "records_per_second": round(self.figures.records / self.seconds) if self.seconds else 0,
        }


def copy_between(
    source_url: str, target_url: str, *, leave_open: bool = False, clock: Clock | None = None,
    progress: Progress | None = None,
) -> Copied:  # fmt: skip
    """`copy_log` between the logs at two URLs.

    A new file for the target gets as many partitions as the source has, unless its URL says otherwise.
    """
    clock = clock or SystemClock()
    if source_url.startswith("sqlite:"):
        existing_log_path(source_url)
    source = open_log(source_url, clock, read_only=True)
    try:
        target = open_target(target_url, clock, source.partitions)
        try:
            return copy_log(source, target, leave_open=leave_open, clock=clock, progress=progress)
        finally:
            target.close()
    finally:
        source.close()


def open_target(url: str, clock: Clock, partitions: int) -> Log:
    """The log at `url`; one that this creates has no record yet, and `partitions` unless its URL says otherwise."""
    path = Path(unquote(split_url(url).path[1:]))
    is_made = url.startswith("memory:") or (url.startswith("sqlite:") and not (path.is_file() and path.stat().st_size))
    return open_log(url, clock, partitions=partitions if is_made else None, genesis=False)


def copy_log(
    source: ReadableLog, target: Log, *, leave_open: bool = False, clock: Clock | None = None,
    progress: Progress | None = None,
) -> Copied:  # fmt: skip
    """Copy the history of `source`, up to its present ends, into `target`, or continue an interrupted run.

    The target is empty, or holds the beginning of a copy of this very log. With `leave_open` its import is not closed,
    so that reads use the time of the end of the history. `progress` is called with how many records are done: each
    counts twice, since the copy is read back. Raises `InvalidSetting` where the two are the same log, `LogMismatch`
    where the target holds anything else or the source lacks records, `ClockSkew` where the source is ahead of the
    clock, and the logs' errors."""
    began_s = time.perf_counter()
    clock, report = clock or SystemClock(), progress or (lambda done, total: None)
    if source.identity == target.identity:
        raise InvalidSetting("the source and the target are the same log: give two")
    found = target.end_offsets()
    ends = _ends_of(source, target, found)
    plan = CopyPlan(source, ends, target.partitions, clock.now_ms() + lifecycle.MAX_AHEAD_MS, leave_open)
    writer = ResumableWriter(target, found, "copy of this log")
    for message in plan.messages():
        writer.put(message)
        if plan.figures.records % PROGRESS_EVERY == 0:
            report(plan.figures.records, 2 * sum(ends))
    writer.finish()
    verifying_s = time.perf_counter()
    expected = [(partition.checkpoint, partition.digest) for partition in plan.partitions]
    plan.partitions.clear()  # as large as the source's, and no longer needed
    differences: list[Difference] = []
    kinds: Counter[str] = Counter()
    for difference in _differences(plan, source, ends, target, expected, report):
        kinds[difference.what] += 1
        if kinds[difference.what] <= MOST_NAMED:
            differences.append(difference)
    done_s = time.perf_counter()
    return Copied(
        figures=plan.figures,
        partitions=(source.partitions, target.partitions),
        live=sum(map(len, plan.source_partitions)),
        written=sum(checkpoint for checkpoint, _ in expected),
        found=sum(found),
        later=sum(source.end_offsets()) - sum(ends),
        is_open=leave_open,
        differences=differences,
        differing=kinds.total(),
        seconds=done_s - began_s,
        verifying_seconds=done_s - verifying_s,
    )


def _ends_of(source: ReadableLog, target: Log, found: Sequence[int]) -> list[int]:
    """The ends up to which the source is copied: its present ones, or those with which the copy began."""
    if not any(found):
        return source.end_offsets()
    opening = opening_of(target.read(0, 0, 1)[0]) if found[0] else None
    if opening is None:
        raise foreign("copy of this log", "it holds records, and is not a copy")
    if opening.copy_of != source.identity:
        raise foreign("copy of this log", "it holds a copy of another log")
    now = source.end_offsets()
    if len(opening.ends) != len(now) or any(end > present for end, present in zip(opening.ends, now, strict=True)):
        raise foreign("copy of this log", "it holds more of this log than the log holds itself")
    return opening.ends


# ── verification ──


def _differences(
    plan: CopyPlan, source: ReadableLog, ends: Sequence[int], target: Log, expected: Sequence[tuple[int, bytes]],
    progress: Progress,
) -> Iterator[Difference]:  # fmt: skip
    """Read the target back, fold it, and yield its differences from the plan and from the source."""
    partitions, ledger = [Partition(number) for number in range(target.partitions)], Ledger(target.partitions)
    reached = [checkpoint for checkpoint, _ in expected]
    for done, (partition, outcome) in enumerate(_folded(target, partitions, reached), start=1):
        ledger.take(partition, outcome)
        if done % PROGRESS_EVERY == 0:
            progress(sum(ends) + min(done, sum(ends)), 2 * sum(ends))
    progress(2 * sum(ends), 2 * sum(ends))
    for partition, (_, digest) in zip(partitions, expected, strict=True):
        if partition.digest != digest:
            yield Difference("record", f"partition {partition.number}", digest.hex(), partition.digest.hex())
    wanted, copied = Folded(plan.source_partitions, plan.ledger), Folded(partitions, ledger)
    yield from statistic_differences(wanted, copied, plan.figures.stand_ins)
    yield from session_differences(wanted, copied)
    yield from ending_differences(
        plan.ledger,
        ledger,
        lambda buckets: (_ending_lines(source, ends, buckets), _ending_lines(target, reached, buckets)),
    )


def _folded(
    log: ReadableLog, partitions: Iterable[Partition], ends: Sequence[int]
) -> Iterator[tuple[Partition, Outcome]]:
    for partition, end in zip(partitions, ends, strict=True):
        for record in records(log, partition.number, end):
            yield partition, partition.fold(record)


def _ending_lines(log: ReadableLog, ends: Sequence[int], buckets: set[int]) -> Any:
    ledger = Ledger(log.partitions)
    folded = _folded(log, [Partition(number) for number in range(log.partitions)], ends)
    return ending_lines(((ledger, *each) for each in folded), buckets)

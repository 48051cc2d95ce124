"""Statistics: what has happened so far, counted. Kept with the snapshot, so that a restart does not lose them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lastseen.engine import events
from lastseen.engine.session import Ending, Status
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import AT_MS, Outcome, Partition, TouchRun
from lastseen.projections.sources import Sources, source_of

EXPIRY_LAG_BOUNDS_MS = (10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 600_000)
"""The classes of lateness into which expiries are sorted; what is later than the last has a class too."""
_APPLIED, _TOUCHED = Verdict.APPLIED, events.Touched
"""Found faster than through their class and module."""


@dataclass(slots=True)
class Counts:
    """One partition's counters."""

    created: int = 0
    applied: Counter[str] = field(default_factory=Counter)
    """By event name."""
    ended: Counter[str] = field(default_factory=Counter)
    """By reason."""
    void: Counter[str] = field(default_factory=Counter)
    """By verdict."""
    longest_ms: int = 0
    """The longest life of a session that has ended."""
    expiry_lag_ms_total: int = 0
    """Log time at which limits were enforced, less the deadlines, summed.

    An import has no part in it: its times are those of its history, and how far its records are apart says nothing of a
    pruner. What was due when it finished is late from the first record after it."""
    expiry_lag_ms_max: int = 0
    expiries: int = 0
    expiry_lags: list[int] = field(default_factory=lambda: [0] * (len(EXPIRY_LAG_BOUNDS_MS) + 1))
    """Expiries by class of lateness; an older snapshot does not know the class of those before it."""
    importing: bool = False
    """Whether the records counted so far end within an import."""
    in_use_from_ms: int | None = 0
    """The log time of the first record after an import; `None` until there is one."""

    @classmethod
    def restored(cls, fields: dict[str, Any]) -> Counts:
        """Counters as a snapshot kept them."""
        restored: dict[str, Any] = {
            name: Counter(value) if isinstance(value, dict) else value for name, value in fields.items()
        }
        return cls(**restored)


def _count_end(counts: Counts, ending: Ending, at_ms: int, created_at_ms: int) -> None:
    reason, ended_at_ms, _, _ = ending
    counts.ended[reason] += 1
    if ended_at_ms - created_at_ms > counts.longest_ms:
        counts.longest_ms = ended_at_ms - created_at_ms
    if not counts.importing and reason in events.TIMED_REASONS:
        lag_ms = max(at_ms - max(ended_at_ms, counts.in_use_from_ms or 0), 0)
        counts.expiries += 1
        counts.expiry_lag_ms_total += lag_ms
        counts.expiry_lags[bisect_left(EXPIRY_LAG_BOUNDS_MS, lag_ms)] += 1
        if lag_ms > counts.expiry_lag_ms_max:
            counts.expiry_lag_ms_max = lag_ms


class Statistics:
    """Counters of every partition."""

    def __init__(self, partitions: int) -> None:
        self.counts = [Counts() for _ in range(partitions)]
        self.sources = Sources()

    def follow(self, partition: Partition, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes."""
        counts = self.counts[partition.number]
        applied, sources = counts.applied, self.sources.counts
        is_first_in_use = counts.in_use_from_ms is None
        for record, event, verdict, at_ms, _, ended, ending in outcomes:
            source = source_of(record.value) if event is None else event.source
            written = sources.get(source)
            if written is None:
                written = self.sources.counts_of(source)
            written.records += 1
            if is_first_in_use and at_ms:
                counts.in_use_from_ms, is_first_in_use = at_ms, False
            if verdict is _APPLIED:
                kind = type(event)
                applied[events.NAMES[kind]] += 1
                if kind is _TOUCHED:
                    pass  # most records: no further comparison
                elif kind is events.Created:
                    counts.created += 1
                elif isinstance(event, events.Opened):
                    counts.importing = event.data.imports
                elif kind is events.ImportFinished:
                    counts.importing, counts.in_use_from_ms, is_first_in_use = False, None, True
            else:
                counts.void[verdict.label] += 1
                written.void[verdict.label] += 1
            if ending is not None and ended is not None:
                _count_end(counts, ending, at_ms, ended.created_at_ms)
        self.sources.end_batch(len(outcomes))

    def follow_touches(self, partition: Partition, run: TouchRun) -> None:
        """Count touches."""
        counts, sources, count = self.counts[partition.number], self.sources, len(run.sessions)
        counts.applied[events.NAMES[_TOUCHED]] += count
        if counts.in_use_from_ms is None:
            counts.in_use_from_ms = next((entry[AT_MS] for entry in run.entries if entry[AT_MS]), None)
        named = sources.counts.get(run.source)
        if named is not None:
            named.records += count
        else:
            for _ in range(count):  # each counts towards a counter of the source's own
                sources.counts_of(run.source).records += 1
        sources.end_batch(count)

    def expiry_lags(self) -> list[int]:
        """Expiries by class of lateness, all partitions together. The caller holds the view's lock."""
        return [sum(column) for column in zip(*(counts.expiry_lags for counts in self.counts), strict=True)]

    def report(self, partitions: Sequence[Partition]) -> dict[str, Any]:
        """These partitions together, as plain JSON values. The caller holds the view's lock."""
        all_counts = [self.counts[partition.number] for partition in partitions]
        created = sum(counts.created for counts in all_counts)
        applied = sum((counts.applied for counts in all_counts), Counter())
        void = sum((counts.void for counts in all_counts), Counter())
        total = applied.total() + void.total()
        expiries = sum(counts.expiries for counts in all_counts)
        lag_ms = sum(counts.expiry_lag_ms_total for counts in all_counts)
        # Sessions stand in each part of `by_id` in the order of their creation.
        parts = [part for partition in partitions for part in partition.by_id.parts() if part]
        oldest = [next(iter(part.values())).created_at_ms for part in parts]
        newest = [next(reversed(part.values())).created_at_ms for part in parts]
        return {
            "live": sum(map(len, partitions)),
            "live_by_status": {
                Status.ACTIVE.value: sum(partition.active_count() for partition in partitions),
                Status.SUSPENDED.value: sum(len(partition.suspended) for partition in partitions),
            },
            "created": created,
            "applied": dict(applied),
            "ended": dict(sum((counts.ended for counts in all_counts), Counter())),
            "void": dict(void),
            "void_rate": void.total() / total if total else 0.0,
            "records": total,
            "oldest_created_at_ms": min(oldest, default=None),
            "newest_created_at_ms": max(newest, default=None),
            "longest_ms": max((counts.longest_ms for counts in all_counts), default=0),
            "expiries": expiries,
            "expiry_lag_ms_total": lag_ms,
            "expiry_lag_ms_mean": lag_ms / expiries if expiries else 0.0,
            "expiry_lag_ms_max": max((counts.expiry_lag_ms_max for counts in all_counts), default=0),
        }

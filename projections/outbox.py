"""The outbox: what records did, kept until the owner of their partition has published it.

Every engine keeps one for every partition, owned or not, so that a new owner of a partition can go on where the
last owner stopped. It is saved with the snapshot, in the same transaction: what lies before it has been published.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from lastseen.projections.facts import Effect, effect_of, encode, encode_state, facts_of
from lastseen.projections.partition import Outcome, Partition

MAX_KEPT = 500_000
"""Effects kept at most, of all partitions together. What is dropped can be had from the log again, by folding it."""


class OutboxEntry(NamedTuple):
    """What is published of one record."""

    offset: int
    facts: list[tuple[str, bytes]]
    """Key and CloudEvent of each."""
    states: list[tuple[str, bytes | None]]
    """Key and new state; `None` where the session has ended."""


def entry_of(partition: int, effect: Effect, source: str) -> OutboxEntry:
    """What is published of an effect."""
    entry = OutboxEntry(effect.offset, [], [])
    for fact in facts_of(partition, effect):
        entry.facts.append((fact.key, encode(fact, source)))
        state = fact.state
        entry.states.append((fact.key, None if state is None else encode_state(fact.id, source, fact.at_ms, state)))
    return entry


class Outbox:
    """Effects by partition, in the order of the log. All but `entries` expects the caller to hold the view's lock."""

    def __init__(self, partitions: int, source: str, max_kept: int = MAX_KEPT) -> None:
        self.source = source
        """The CloudEvents source of all facts: the log, not the process."""
        self._max_kept = max(max_kept // partitions, 1)
        self._kept: list[deque[Effect | OutboxEntry]] = [deque() for _ in range(partitions)]
        self.floors = [0] * partitions
        """For each partition the offset from which on every effect is here, or was published."""

    def restore(self, number: int, floor: int, entries: Sequence[OutboxEntry]) -> None:
        """Begin with what a snapshot holds."""
        self.floors[number] = floor
        self._kept[number].extend(entries)

    def forget(self, number: int) -> None:
        """Drop everything of one partition."""
        self._kept[number].clear()
        self.floors[number] = 0

    def on_record(self, partition: Partition, outcome: Outcome) -> None:
        """Keep what a record did. Call it right after it was folded."""
        effect = effect_of(outcome)
        if effect is None:
            return
        kept = self._kept[partition.number]
        kept.append(effect)
        if len(kept) > self._max_kept:
            self.floors[partition.number] = kept.popleft().offset + 1

    def first(self, number: int, from_offset: int, limit: int) -> list[Effect | OutboxEntry]:
        """The first effects at or after an offset."""
        kept = self._kept[number]
        start = next((place for place, each in enumerate(kept) if each.offset >= from_offset), len(kept))
        return list(islice(kept, start, start + limit))

    def pending(self, number: int) -> int:
        """How many effects of a partition are here."""
        return len(self._kept[number])

    def drop_before(self, number: int, offset: int) -> None:
        """Everything before `offset` has been published."""
        kept = self._kept[number]
        while kept and kept[0].offset < offset:
            kept.popleft()
        self.floors[number] = max(self.floors[number], offset)

    def entries(self, number: int, effects: Sequence[Effect | OutboxEntry]) -> list[OutboxEntry]:
        """What is published of effects."""
        return [each if isinstance(each, OutboxEntry) else entry_of(number, each, self.source) for each in effects]

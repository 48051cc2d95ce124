"""The outbox: what records did, kept until the owner of their partition has published it.

Every engine keeps one for every partition, owned or not, so that a new owner of a partition can go on where the
last owner stopped. It is saved with the snapshot, in the same transaction: what lies before it has been published.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lastseen.projections.facts import Effect, effect_of, encode, encode_state, facts_of
from lastseen.projections.partition import Outcome, Partition

MAX_KEPT = 500_000
"""Effects kept at most, of all partitions together. What is dropped can be had from the log again, by folding it."""
MAX_OFFSET = 2**63 - 1
STEP = 2_000
"""Effects copied or dropped with the view's lock held: about 1 ms."""


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


Check = Callable[[OutboxEntry], bool]
"""Whether what is published of a record stands in the topic of facts already."""


class Kept:
    """The effects of one partition in the order of the log, in chunks: dropping costs what is dropped, finding a place
    its logarithm, and nothing is ever moved as one piece. An interrupt leaves it whole, between any two lines."""

    def __init__(self) -> None:
        self._chunks: list[list[Effect | OutboxEntry]] = [[]]
        """The first has lost its beginning, the last is still growing; all others have `STEP` effects."""

    def __len__(self) -> int:
        chunks = self._chunks
        return len(chunks[-1]) if len(chunks) == 1 else len(chunks[0]) + (len(chunks) - 2) * STEP + len(chunks[-1])

    def append(self, effect: Effect | OutboxEntry) -> None:
        last = self._chunks[-1]
        if len(last) < STEP:
            last.append(effect)
        else:
            self._chunks.append([effect])

    def extend(self, effects: Sequence[OutboxEntry]) -> None:
        for effect in effects:
            self.append(effect)

    def between(self, from_offset: int, before_offset: int, limit: int) -> list[Effect | OutboxEntry]:
        """The first effects of a range of offsets."""
        found: list[Effect | OutboxEntry] = []
        chunks = self._chunks
        for number in range(max(bisect_right(chunks, from_offset, key=_first_offset) - 1, 0), len(chunks)):
            chunk = chunks[number]
            start, end = (bisect_left(chunk, offset, key=_offset_of) for offset in (from_offset, before_offset))
            found += chunk[start : min(end, start + limit - len(found))]
            if end < len(chunk) or len(found) == limit:
                break
        return found

    def first_offset(self) -> int | None:
        """The offset of the first effect; `None` if there is none."""
        return next((chunk[0].offset for chunk in self._chunks if chunk), None)

    def drop_before(self, offset: int, limit: int) -> None:
        """Drop effects before an offset, `limit` of them at the most."""
        while limit > 0:
            place = bisect_left(self._chunks[0], offset, key=_offset_of)
            dropped = min(place, limit)
            is_whole = dropped == len(self._chunks[0])
            self._drop(dropped)
            limit -= dropped
            if not is_whole or len(self) == 0:
                return

    def drop_first(self) -> None:
        """Drop the first effect."""
        self._drop(1)

    def _drop(self, count: int) -> None:
        """Drop so many of the first chunk."""
        chunks = self._chunks
        while len(chunks) > 1 and not chunks[0]:  # as an interrupt left it
            del chunks[0]
        del chunks[0][:count]
        if not chunks[0] and len(chunks) > 1:
            del chunks[0]


def _offset_of(effect: Effect | OutboxEntry) -> int:
    return effect.offset


def _first_offset(chunk: Sequence[Effect | OutboxEntry]) -> int:
    return chunk[0].offset if chunk else -1


class Outbox:
    """Effects by partition, in the order of the log. All but `entries` expects the caller to hold the view's lock."""

    def __init__(self, partitions: int, source: str, max_kept: int = MAX_KEPT) -> None:
        self.source = source
        """The CloudEvents source of all facts: the log, not the process."""
        self._max_kept = max(max_kept // partitions, 1)
        self._kept: list[Kept] = [Kept() for _ in range(partitions)]
        self.floors = [0] * partitions
        """For each partition the offset from which on every effect is here, or was published."""
        self.published = [0] * partitions
        """For each partition an offset before which every effect was published for certain."""
        self._skipping: list[tuple[int, Mapping[int, Check]] | None] = [None] * partitions
        """For each partition the last claim, before which nothing is kept, and all claims; `None` if all is kept."""

    def restore(self, number: int, floor: int, published: int, entries: Sequence[OutboxEntry]) -> None:
        """Begin with what a snapshot holds."""
        self.floors[number], self.published[number] = floor, published
        self._kept[number].extend(entries)

    def forget(self, number: int) -> None:
        """Drop everything of one partition."""
        self._kept[number] = Kept()
        self.floors[number] = self.published[number] = 0
        self._skipping[number] = None

    def skip_published(self, number: int, claims: Mapping[int, Check]) -> None:
        """Keep no effect before the last of these offsets: a fact claims that all before it are published.

        Each claim is checked when its record is folded. Where the last one proves wrong, what is missing here is folded
        again by the owner.
        """
        self._skipping[number] = (max(claims), claims) if claims else None

    def on_record(self, partition: Partition, outcome: Outcome) -> None:
        """Keep what a record did. Call it right after it was folded."""
        number, offset = partition.number, outcome.record.offset
        if not self._skips(number, offset, lambda: effect_of(outcome)):
            effect = effect_of(outcome)
            if effect is not None:
                self._keep(number, effect)

    hears_touches = True
    """`follower.Listener`."""

    def on_touch(self, number: int, effect: Effect) -> None:
        """Keep what a plain touch did. Call it right after it was folded."""
        if not self._skips(number, effect.offset, lambda: effect):
            self._keep(number, effect)

    def _keep(self, number: int, effect: Effect) -> None:
        kept = self._kept[number]
        kept.append(effect)
        if len(kept) > self._max_kept:
            # What was skipped after the entries of a snapshot may lie beyond the one that is dropped now.
            self.floors[number] = max(self.floors[number], (kept.first_offset() or 0) + 1)
            kept.drop_first()

    def _skips(self, number: int, offset: int, made: Callable[[], Effect | None]) -> bool:
        """Whether the effect of a record is published, as a later fact claims. `made` makes it."""
        skipping = self._skipping[number]
        if skipping is None:
            return False
        last, claims = skipping
        check = claims.get(offset)
        if check is not None:
            effect = made()
            if effect is not None and check(entry_of(number, effect, self.source)):
                self.mark_published(number, offset)
        if offset >= last:
            # This one is kept: an owner finds it in the topic, and goes on from it.
            self._skipping[number] = None
            return False
        self.floors[number] = offset + 1
        return True

    def first(self, number: int, from_offset: int, limit: int) -> list[Effect | OutboxEntry]:
        """The first effects at or after an offset."""
        return self.between(number, from_offset, MAX_OFFSET, limit)

    def between(self, number: int, from_offset: int, before_offset: int, limit: int) -> list[Effect | OutboxEntry]:
        """The first effects at or after an offset, and before another."""
        return self._kept[number].between(from_offset, before_offset, limit)

    def pending(self, number: int) -> int:
        """How many effects of a partition are here."""
        return len(self._kept[number])

    def mark_published(self, number: int, offset: int) -> None:
        """Every effect before `offset` was published."""
        self.published[number] = max(self.published[number], offset)

    def drop_before(self, number: int, offset: int) -> bool:
        """Everything before `offset` has been published: drop a step of it. Whether that was all.

        Where it was not, the caller lets others have the view's lock, and calls again.
        """
        kept = self._kept[number]
        kept.drop_before(offset, STEP)
        first = kept.first_offset()
        reached = offset if first is None else min(first, offset)
        self.floors[number] = max(self.floors[number], reached)
        return reached == offset

    def entries(self, number: int, effects: Sequence[Effect | OutboxEntry]) -> list[OutboxEntry]:
        """What is published of effects."""
        return [each if isinstance(each, OutboxEntry) else entry_of(number, each, self.source) for each in effects]

"""The publisher: publishes what took effect, for the partitions that this process owns.

Each fact is named by its place in the log, so publishing one twice is harmless, and every owner publishes in the order
of the log. So the newest fact in the topic says that all before it are there too: a new owner begins with it again, and
misses nothing. Only a fact that is verified says so (`facts_tail`). Where none is, the owner begins where all was
certainly published, and publishes some facts twice. States go first: what a fact speaks of can then be read. Where an
owner that was replaced has written states since, those keys' states are written again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lastseen.engine.log.port import Log
from lastseen.engine.log.shared_log import FactPublisher, OutboundRecord
from lastseen.projections.facts import Effect, FactId, effect_of, encode_state, is_state, published_state, state_of
from lastseen.projections.facts_tail import Claim, FactsTail
from lastseen.projections.live_view import LiveView
from lastseen.projections.outbox import Outbox, OutboxEntry, entry_of
from lastseen.projections.partition import Partition

BATCH = 1_000
"""Records published at a time."""
PAUSE_S = 0.000_1
"""Between two steps; without it, the lock is taken again before a waiting thread has woken up."""
LOOK_EVERY_S = 1.0
"""How often it is looked what other owners have published, and whether they have written states here."""


class Publisher:
    """Publishes facts and states. For one thread."""

    def __init__(
        self,
        log: Log,
        view: LiveView,
        outbox: Outbox,
        fact_publisher: FactPublisher,
        owned: Callable[[], frozenset[int]],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._view = view
        self._outbox = outbox
        self._fact_publisher = fact_publisher
        self._owned = owned
        self._monotonic_s = monotonic_s
        self._tail = FactsTail(view, outbox, fact_publisher, lambda number: log.end_offsets()[number])
        self._awaited: dict[int, int] = {}
        """For each partition that we are to take over, the offset up to which it is to be folded first."""
        self._next: dict[int, int] = {}
        """For each partition that we publish, the offset to go on with."""
        self._looked_s: dict[int, float] = {}
        self.refolded = 0
        """Records folded again since what they did was no longer in the outbox."""
        self.strangers: Counter[str] = Counter()
        """Records of strangers that were seen, by topic, `facts` or `state`, in the partitions that were ours."""

    def skip_published(self, numbers: Iterable[int]) -> None:
        """Spare the outbox what is published already, of records that these partitions have still to fold.

        Raises `LogError`; that costs no more than memory.
        """
        for number in numbers:
            self._tail.skip_published(number)

    def run(self) -> int:
        """Publish all that there is; returns how many facts. Raises `LogError`; then the next call goes on."""
        count = 0
        owned = self._owned()
        for number in range(len(self._view.partitions)):
            if number in owned:
                try:
                    count += self._publish(number)
                except Exception:
                    # After any error: ask the topics again what they have of it.
                    self._next.pop(number, None)
                    raise
            else:
                self._next.pop(number, None)
                self._awaited.pop(number, None)
                self._follow_owner(number)
        return count

    def _publish(self, number: int) -> int:
        count = 0
        if number not in self._next:
            place = self._take_over(number)
            if place is None:
                return 0
            self._next[number] = place
        while True:
            with self._view.lock:
                floor = self._outbox.floors[number]
                effects = self._outbox.first(number, self._next[number], BATCH)
            if number not in self._owned():
                return count  # the next owner goes on
            if floor > self._next[number]:
                count += self._publish_again(number, self._next[number], floor)
                continue
            if not effects:
                break
            count += self._publish_entries(number, self._outbox.entries(number, effects))
            # The last one stays: the next run, or the next owner, begins with it again.
            self._drop_before(number, self._next[number] - 1)
        self._repair_states(number)
        return count

    def _take_over(self, number: int) -> int | None:
        """Where the last owner stopped; `None` as long as that cannot be known here."""
        with self._view.lock:
            if self._view.partitions[number].checkpoint < self._awaited.get(number, 0):
                return None
        if self._fact_publisher.had_facts(number):
            found = self._tail.look(number)
            if found.ahead is not None and number not in self._awaited:
                # Others may have published what is not folded here yet. That is awaited once: a stranger could go on
                # and on forging such facts.
                self._awaited[number] = found.ahead + 1
                return None
            place = found.place if found.place is not None else self._verified_by_fold(number, found.older)
        else:  # the topic is new, or was recreated
            with self._view.lock:
                place = self._outbox.published[number] = 0
        self._awaited.pop(number, None)
        # The last state that another owner wrote may be an old one, written while no owner was looking.
        self._fact_publisher.mark_foreign(number)
        self._looked_s.pop(number, None)
        with self._view.lock:
            if place is not None:
                self._outbox.mark_published(number, place)
            return self._outbox.published[number] if place is None else place

    def _verified_by_fold(self, number: int, claims: Sequence[Claim]) -> int | None:
        """The newest of the places that were claimed and prove right, by what the records did once more."""
        if not claims:
            return None
        by_offset: dict[int, list[Claim]] = {}
        for claim in claims:
            by_offset.setdefault(claim.id.offset, []).append(claim)
        place: int | None = None
        for _, effects in self._refold(number, max(by_offset) + 1):
            for effect in effects:
                if effect.offset in by_offset:
                    entry = entry_of(number, effect, self._outbox.source)
                    if any(claim.is_among(entry) for claim in by_offset[effect.offset]):
                        place = effect.offset
        return place

    def _refold(self, number: int, until_offset: int) -> Iterator[tuple[int, list[Effect]]]:
        """Fold a partition from its beginning once more, up to an offset, while it is ours.

        Gives, read by read, the offset that is reached and what the records did.
        """
        scratch = Partition(number)
        while scratch.checkpoint < until_offset and number in self._owned():
            effects = []
            for record in self._log.read(number, scratch.checkpoint, min(BATCH, until_offset - scratch.checkpoint)):
                effect = effect_of(scratch.fold(record))
                self.refolded += 1
                if effect is not None:
                    effects.append(effect)
            yield scratch.checkpoint, effects

    def _publish_again(self, number: int, from_offset: int, until_offset: int) -> int:
        """Publish what is no longer in the outbox."""
        entries: list[OutboxEntry] = []
        count = 0
        for reached, effects in self._refold(number, until_offset):
            entries += [
                entry_of(number, effect, self._outbox.source) for effect in effects if effect.offset >= from_offset
            ]
            if len(entries) >= BATCH or reached >= until_offset:
                count += self._publish_entries(number, entries)
                entries = []
            if reached >= until_offset:
                self._next[number] = until_offset
        return count

    def publish_rest(self, numbers: frozenset[int]) -> int:
        """Publish at most a batch of each partition, of what is in the outbox: for an owner that has left the group.

        The next owner may publish the same. Raises `LogError`.
        """
        count = 0
        for number in numbers & self._next.keys():
            with self._view.lock:
                is_whole = self._outbox.floors[number] <= self._next[number]
                effects = self._outbox.first(number, self._next[number], BATCH) if is_whole else []
            count += self._publish_entries(number, self._outbox.entries(number, effects))
        return count

    def _publish_entries(self, number: int, entries: Sequence[OutboxEntry]) -> int:
        if not entries:
            return 0
        # Of several states of a key only the last would stay.
        states = {key: state for entry in entries for key, state in entry.states}
        facts = [OutboundRecord(key, fact) for entry in entries for key, fact in entry.facts]
        self._fact_publisher.publish_states(number, [OutboundRecord(key, state) for key, state in states.items()])
        self._fact_publisher.publish_facts(number, facts)
        self._next[number] = entries[-1].offset + 1
        with self._view.lock:
            self._outbox.mark_published(number, self._next[number])
        return len(facts)

    def _is_time_to_look(self, number: int) -> bool:
        now_s = self._monotonic_s()
        if now_s - self._looked_s.get(number, float("-inf")) < LOOK_EVERY_S:
            return False
        self._looked_s[number] = now_s
        return True

    def _repair_states(self, number: int) -> None:
        """Write states again that another owner has overwritten with old ones."""
        with self._view.lock:
            if self._is_behind(number):
                return
        if not self._is_time_to_look(number):
            return
        for records in self._fact_publisher.facts_by_others(number):
            self.strangers["facts"] += sum(self._tail.is_strange(number, record) for record in records)
        is_right: dict[str, bool] = {}
        """By key, of what was written last."""
        for page in self._fact_publisher.written_by_others(number):
            if number not in self._owned():
                self._next.pop(number)
                return
            with self._view.lock:
                if self._is_behind(number):  # it was dropped meanwhile: the next owner looks at everything
                    self._next.pop(number)
                    return
                wanted = {each.key: self._state(number, each.key) for each in page if each.key is not None}
            self.strangers["state"] += sum(not is_state(each, self._outbox.source) for each in page)
            for each in page:
                if each.key is not None:
                    is_right[each.key] = published_state(each.value) == wanted[each.key]
        keys = [key for key, right in is_right.items() if not right]
        for start in range(0, len(keys), BATCH):
            outbound = []
            with self._view.lock:
                if self._is_behind(number) or number not in self._owned():
                    self._next.pop(number)
                    return
                partition = self._view.partitions[number]
                place = FactId(number, partition.checkpoint - 1, 0)
                for key in keys[start : start + BATCH]:
                    state = self._state(number, key)
                    value = None
                    if state is not None:
                        value = encode_state(place, self._outbox.source, partition.log_time_ms, state)
                    outbound.append(OutboundRecord(key, value))
            self._fact_publisher.publish_states(number, outbound)

    def _is_behind(self, number: int) -> bool:
        """Whether others have published records that are not folded here: what is known here of states may be old.

        What is neither folded nor published yet will be published. The caller holds the view's lock.
        """
        return self._view.partitions[number].checkpoint < self._next[number]

    def _state(self, number: int, key: str) -> dict[str, Any] | None:
        session = self._view.partitions[number].find(key)
        return None if session is None else state_of(session)

    def _follow_owner(self, number: int) -> None:
        """Drop what the owner of a partition has published."""
        with self._view.lock:
            pending = self._outbox.pending(number)
        if pending and self._is_time_to_look(number):
            place = self._tail.look(number).place
            if place is not None:
                with self._view.lock:
                    self._outbox.mark_published(number, place)
                self._drop_before(number, place)

    def _drop_before(self, number: int, offset: int) -> None:
        """Drop what is published from the outbox, step by step: it may be half a million effects."""
        while True:
            with self._view.lock:
                if self._outbox.drop_before(number, offset):
                    return
            time.sleep(PAUSE_S)

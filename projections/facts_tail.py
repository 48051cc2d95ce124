"""What stands last in the topic of facts, and which of it can be believed.

Any program that may write to the topic can leave something there: garbage, a transaction, a forged fact of a far
offset. So a place counts only from a fact that equals, in key and bytes, the one that our own fold makes of the same
record. Facts are published in the order of the log, so one that does says that all before it are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from lastseen.engine.log.port import Record
from lastseen.engine.log.shared_log import FactPublisher
from lastseen.projections.facts import FactId, published_fact_id
from lastseen.projections.live_view import LiveView
from lastseen.projections.outbox import Check, Outbox, OutboxEntry


class Claim(NamedTuple):
    """A record that says that it is a fact of ours."""

    id: FactId
    record: Record

    def is_among(self, entry: OutboxEntry) -> bool:
        """Whether it is what we publish of that record."""
        same_place = self.id.offset == entry.offset and self.id.k < len(entry.facts)
        return same_place and entry.facts[self.id.k] == (self.record.key, self.record.value)


class TailFound(NamedTuple):
    """What the end of the topic says of one partition."""

    place: int | None
    """The offset of the newest fact that is ours, as far as it could be verified."""
    ahead: int | None
    """The offset of a claim, newer than that, about a record that is in the log and not folded here yet."""
    older: list[Claim]
    """Claims, newer than that, about records whose effects the outbox no longer has."""


class FactsTail:
    """Looks at the end of the topic of facts. For one thread."""

    def __init__(
        self, view: LiveView, outbox: Outbox, fact_publisher: FactPublisher, log_end: Callable[[int], int]
    ) -> None:
        """`log_end` gives the end of a partition of the log, and may ask for it."""
        self._view = view
        self._outbox = outbox
        self._fact_publisher = fact_publisher
        self._log_end = log_end

    def look(self, number: int) -> TailFound:
        """Go back from the newest record until one is ours; not without bound. Raises `LogError`."""
        ahead: int | None = None
        older: list[Claim] = []
        log_end: int | None = None
        for claim in self._claims(number):
            offset = claim.id.offset
            with self._view.lock:
                checkpoint = self._view.partitions[number].checkpoint
                floor, published = self._outbox.floors[number], self._outbox.published[number]
                effects = self._outbox.between(number, offset, offset + 1, 1)
            if offset >= checkpoint:
                log_end = self._log_end(number) if log_end is None else log_end
                if offset < log_end:  # else no owner can have folded it
                    ahead = offset if ahead is None else max(ahead, offset)
            elif effects:
                (entry,) = self._outbox.entries(number, effects)
                if claim.is_among(entry):
                    return TailFound(offset, ahead, older)
            elif published <= offset < floor:
                older.append(claim)
        return TailFound(None, ahead, older)

    def is_strange(self, number: int, record: Record) -> bool:
        """Whether a record is certainly no owner's fact: it is none, or not what our fold makes. May ask the log."""
        fact_id = published_fact_id(record, self._outbox.source)
        if fact_id is None or fact_id.partition != number:
            return True
        offset = fact_id.offset
        with self._view.lock:
            checkpoint, floor = self._view.partitions[number].checkpoint, self._outbox.floors[number]
            effects = self._outbox.between(number, offset, offset + 1, 1)
        if offset >= checkpoint:
            return offset >= self._log_end(number)
        entries = self._outbox.entries(number, effects)
        return not any(Claim(fact_id, record).is_among(entry) for entry in entries) if entries else offset >= floor

    def skip_published(self, number: int) -> None:
        """Spare the outbox what the newest facts claim to be published, of records that are still to be folded here.

        Raises `LogError`.
        """
        found: dict[int, list[Claim]] = {}
        with self._view.lock:
            checkpoint = self._view.partitions[number].checkpoint
        log_end = self._log_end(number)
        for page in self._fact_publisher.newest_facts(number):
            for claim in self._claims_in(number, page):
                if checkpoint <= claim.id.offset < log_end:
                    found.setdefault(claim.id.offset, []).append(claim)
            if found:
                break
        checks: dict[int, Check] = {offset: partial(_is_claimed, claims) for offset, claims in found.items()}
        with self._view.lock:
            if self._view.partitions[number].checkpoint == checkpoint:
                self._outbox.skip_published(number, checks)

    def _claims(self, number: int) -> Iterable[Claim]:
        for page in self._fact_publisher.newest_facts(number):
            yield from self._claims_in(number, page)

    def _claims_in(self, number: int, page: Sequence[Record]) -> Iterable[Claim]:
        for record in reversed(page):
            fact_id = published_fact_id(record, self._outbox.source)
            if fact_id is not None and fact_id.partition == number:
                yield Claim(fact_id, record)


def _is_claimed(claims: Sequence[Claim], entry: OutboxEntry) -> bool:
    return any(claim.is_among(entry) for claim in claims)

"""A replica that never crashes: each record is folded once, alone, in order, and what it did is kept for the judges."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec import to_builtins

from lastseen.engine.session import Session
from lastseen.engine.verdicts import Verdict
from lastseen.projections.facts import effect_of, encode, facts_of
from lastseen.projections.partition import EMPTY_DIGEST, Outcome, Partition
from lastseen.projections.statistics import Statistics
from tests.simulation.brokers import Brokers
from tests.simulation.chronicle import Chronicle, End, Entry, Said, read


def fields(session: Session) -> dict[str, Any]:
    """All that the fold knows of a session, as values that can be compared."""
    return {
        "key": session.key, "id": session.session_id, "policy": session.policy, "created": session.created_at_ms,
        "born": session.born_offset, "last_active": session.last_active_at_ms,
        "last_offset": session.last_active_offset, "version": session.version,
        "suspended_at": session.suspended_at_ms, "suspended_ms": session.suspended_ms,
        "leases": dict(session.leases or {}),
        "owner": session.owner, "deadline": session.deadline_ms(),
    }  # fmt: skip


def state_of(partition: Partition, statistics: Statistics) -> dict[str, Any]:
    """A partition's whole state, as values that can be compared."""
    return {
        "checkpoint": partition.checkpoint,
        "digest": partition.digest,
        "log time": partition.log_time_ms,
        "log": (partition.log_id, partition.log_partitions, partition.importing),
        "lru": [fields(session) for session in partition.in_lru_order()],
        "suspended": {key: fields(session) for key, session in partition.suspended.items()},
        "ids": sorted(partition.by_id),
        "owners": {owner: sorted(owned) for owner, owned in partition.by_owner.items()},
        "endings": (partition.endings.total, partition.endings.newest(1_000)),
        "counts": to_builtins(statistics.counts[partition.number]),
    }


class Folded(NamedTuple):
    """A record and what it did, in the moment when it was folded."""

    said: Said
    verdict: Verdict
    outcome: Outcome
    before: dict[str, Any] | None
    """The session under the record's key before the record."""
    after: dict[str, Any] | None
    """And after it."""
    size: int
    """How many sessions live after it."""
    facts: list[bytes]
    """What is to be published."""


class Reference:
    """One partition, folded without accidents."""

    def __init__(self, number: int, source: str) -> None:
        self.partition = Partition(number)
        self.folded: list[Folded] = []
        self.digests = [EMPTY_DIGEST]
        """The digest before each offset."""
        self.chronicle = Chronicle()
        """What took effect, according to the engine's own verdicts."""
        self.statistics = Statistics(number + 1)
        self.source = source

    def follow(self, brokers: Brokers) -> None:
        """Fold what is new."""
        number = self.partition.number
        for record in brokers.records[number][self.partition.checkpoint :]:
            label = brokers.labels.get((number, record.offset))
            said = read(record.offset, record.timestamp_ms, record.key, record.value, label)
            before = self._at(said.key)
            outcome = self.partition.fold(record)
            self.statistics.follow(self.partition, [outcome])
            effect = effect_of(outcome)
            facts = [] if effect is None else [encode(fact, self.source) for fact in facts_of(number, effect)]
            size = len(self.partition)
            self.folded.append(Folded(said, outcome.verdict, outcome, before, self._at(said.key), size, facts))
            self.digests.append(self.partition.digest)
            self._chronicle(said, outcome)

    def _at(self, key: str | None) -> dict[str, Any] | None:
        session = None if key is None else self.partition.find(key)
        return None if session is None else fields(session)

    def _chronicle(self, said: Said, outcome: Outcome) -> None:
        if outcome.ended is not None and outcome.ending is not None:
            end = End(said.offset, outcome.ending.at_ms, outcome.ending.reason)
            self.chronicle.ends_with(outcome.ended.session_id, end)
        if outcome.verdict is not Verdict.APPLIED or said.event is None or said.key is None:
            return
        entry = Entry(said.offset, said.at_ms, said.name, said.event["data"], said.event["id"])
        session_id = entry.data.get("session_id")
        if said.name == "created":
            self.chronicle.begins(session_id, said.key, entry)
        elif session_id is not None and said.name not in ("expired", "closed"):
            self.chronicle.takes_effect(session_id, entry)

    def state(self) -> dict[str, Any]:
        """The whole state, as values that can be compared."""
        return state_of(self.partition, self.statistics)

    def at(self, key: str, before: int) -> dict[str, Any] | None:
        """The session that was live under a key before an offset, due or not."""
        for folded in reversed(self.folded[:before]):
            if folded.said.key == key and folded.said.event is not None:
                return folded.after
        return None

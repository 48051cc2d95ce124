"""The simulated topics of facts and states, and each node's way to them, which may fail at any point of a write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lastseen.engine.errors import LogUnavailable
from lastseen.engine.log.port import Mark, Record
from lastseen.engine.log.shared_log import OutboundRecord

NEWEST = 40
"""How far back the facts are searched."""


class Topics:
    """Facts and states by partition, in the order in which they were written."""

    def __init__(self, partitions: int) -> None:
        self.facts: list[list[OutboundRecord]] = [[] for _ in range(partitions)]
        self.strange: list[dict[int, Mark | None]] = [{} for _ in range(partitions)]
        """Which facts strangers have written, by their places, and how they are marked."""
        self.states: list[list[OutboundRecord]] = [[] for _ in range(partitions)]


class Way:
    """One node's way to the topics (`shared_log.FactPublisher`)."""

    def __init__(self, topics: Topics, happened: Callable[[str], None]) -> None:
        self._topics = topics
        self._happened = happened
        self._seen: dict[int, int] = {}
        self._looked: dict[int, int] = {}
        self._strange: dict[int, list[Record]] = {}
        self.armed: str | None = None
        """When the next write fails: `before`, `during` or `after`, of facts or of states."""

    def _fail(self, when: str) -> None:
        if self.armed == when:
            self.armed = None
            self._happened("facts not acknowledged")
            raise LogUnavailable("the brokers are out of reach")

    def publish_facts(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        """Append facts (`shared_log.FactPublisher`)."""
        self._fail("before facts")
        if self.armed == "during facts":
            self._topics.facts[partition] += outbound[: len(outbound) // 2]
            self._fail("during facts")
        self._topics.facts[partition] += outbound
        self._fail("after facts")

    def newest_facts(self, partition: int) -> Iterator[Sequence[Record]]:
        """What stands last, a few at a time (`shared_log.FactPublisher`)."""
        facts, strange = self._topics.facts[partition], self._topics.strange[partition]
        for end in range(len(facts), max(len(facts) - NEWEST, 0), -4):
            places = range(max(end - 4, 0), end)
            yield [Record(partition, place, 0, *facts[place], strange.get(place)) for place in places]

    def facts_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        """All facts since the last call, our own too (`shared_log.FactPublisher`)."""
        facts, strange = self._topics.facts[partition], self._topics.strange[partition]
        places = range(self._looked.get(partition, 0), len(facts))
        self._looked[partition] = len(facts)
        yield [Record(partition, place, 0, *facts[place], strange.get(place)) for place in places]

    def had_facts(self, partition: int) -> bool:
        """Whether there ever was one (`shared_log.FactPublisher`)."""
        return bool(self._topics.facts[partition])

    def publish_states(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        """Replace states (`shared_log.FactPublisher`)."""
        self._fail("before states")
        self._look(partition)
        self._topics.states[partition] += outbound
        self._seen[partition] = len(self._topics.states[partition])
        self._fail("after states")

    def _look(self, partition: int) -> None:
        states = self._topics.states[partition]
        if partition in self._seen:
            found = [Record(partition, 0, 0, *state) for state in states[self._seen[partition] :]]
            self._strange.setdefault(partition, []).extend(found)
        self._seen[partition] = len(states)

    def mark_foreign(self, partition: int) -> None:
        """Take all states for another owner's (`shared_log.FactPublisher`)."""
        self._seen[partition] = 0
        self._strange[partition] = []

    def written_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        """What others have written since this was asked last (`shared_log.FactPublisher`)."""
        self._look(partition)
        found = self._strange.pop(partition, [])
        for start in range(0, len(found), 3):
            yield found[start : start + 3]

    def close(self) -> None:
        """Let go (`shared_log.FactPublisher`)."""

"""States that land late: what a broker writes long after its producer has given up on it stays on top of nothing newer.

The owners of `tests/properties` come and go here with the real reader and writer of the topic of states, between a
producer and a consumer that are made up: requests are lost, their answers are lost, or they are on their way for as
long as it takes; readers fail, and a broker that is behind reports that there is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from kafka import TopicPartition, errors

from lastseen.engine.errors import LogError
from lastseen.engine.log.kafka.facts_and_states import MAX_WAITING_BYTES, _States
from lastseen.engine.log.kafka.producer import Delivered, Failed, OnOutcome
from lastseen.engine.log.kafka.url import parse_kafka_url
from lastseen.engine.log.kafka.writer import Writer
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Message, Record
from lastseen.engine.log.shared_log import OutboundRecord
from tests.properties.test_publisher import (
    KEYS,
    PARTITIONS,
    FakeFactPublisher,
    Member,
    OwnersComeAndGo,
    Topics,
    live_states,
    newest,
)

KAFKA_URL = parse_kafka_url("kafka://192.0.2.1:9092/made-up.state")
PAGE = 3
LOST, UNANSWERED, LATE = "lost", "unanswered", "late"
"""What may become of a request to write."""
STUCK = "stuck"
"""A write may fail before it is one, too."""
DEAF, SILENT, STRANGE, BEHIND = "deaf", "silent", "strange", "behind"
"""How a read may fail: where the topic ends cannot be had; no answer; kafka-python stumbles; the broker lags."""


class Way:
    """Between one engine and the topic of states; the next request, or the next read, may go wrong."""

    def __init__(self, topics: Topics) -> None:
        self.states = topics.states
        self.in_flight: list[tuple[int, list[tuple[str, bytes | None]]]] = []
        """What was sent, given up, and has not arrived yet."""
        self.goes_wrong: str | None = None

    def turn(self, *of: str) -> str | None:
        """What goes wrong now, if it is one of these."""
        wrong = self.goes_wrong
        if wrong not in of:
            return None
        self.goes_wrong = None
        return wrong

    def land(self) -> None:
        """The oldest request that is still under way arrives."""
        if self.in_flight:
            partition, outbound = self.in_flight.pop(0)
            self.states[partition] += outbound


class MadeUpProducer:
    """Writes to the topic, or does not, and says what a producer can know of it (`Producer`)."""

    def __init__(self, way: Way) -> None:
        self._way = way

    def send_batch(self, partition: int, messages: Sequence[Message], _: float, on_outcome: OnOutcome) -> None:
        outbound = [(message.key, message.value) for message in messages]
        wrong = self._way.turn(LOST, UNANSWERED, LATE)
        if wrong == LATE:
            self._way.in_flight.append((partition, outbound))
        elif wrong != LOST:
            states = self._way.states[partition]
            first = len(states)
            states += outbound
            if wrong is None:
                on_outcome(Delivered(range(first, first + len(outbound)), None))
                return
        on_outcome(Failed(errors.KafkaTimeoutError("given up"), may_be_written=True, is_unusable=True))

    def close(self) -> None:
        pass


class Found(NamedTuple):
    """A record, as far as it is looked at."""

    offset: int
    key: bytes
    value: bytes | None


class MadeUpConsumer:
    """Reads one partition of the topic, a page at a time."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._positions: dict[TopicPartition, int] = {}

    def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self._way.turn(DEAF):
            raise RuntimeError("NetworkSelector closed!")
        return {place: len(self._way.states[place.partition]) for place in places}

    def assign(self, places: list[TopicPartition]) -> None:
        self._positions = {place: self._positions.get(place, -1) for place in places}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._positions[place] = offset

    def position(self, place: TopicPartition) -> int:
        return self._positions[place]

    def poll(self, **_: object) -> dict[TopicPartition, list[Found]]:
        (place,) = self._positions
        at = self._positions[place]
        wrong = self._way.turn(SILENT, STRANGE, BEHIND)
        if wrong == SILENT:
            raise errors.KafkaTimeoutError("no answer")
        if wrong == STRANGE:
            raise AttributeError("'NoneType' object has no attribute 'offset'")
        if wrong == BEHIND:
            raise errors.OffsetOutOfRangeError({place: at})
        page = self._way.states[place.partition][at : at + PAGE]
        self._positions[place] = at + len(page)
        return {place: [Found(at + number, key.encode(), value) for number, (key, value) in enumerate(page)]}

    def close(self, **_: object) -> None:
        raise errors.KafkaTimeoutError("a consumer that failed may fail to close, too")


class StatesOnTheWay(_States):
    """The real reader and writer of the states, with clients that are made up."""

    @staticmethod
    def _records_of(partition: int, fetched: Any) -> Iterator[Record]:
        yield Record(partition, fetched.offset, 0, fetched.key.decode(), fetched.value)

    def __init__(self, way: Way) -> None:
        super().__init__(KAFKA_URL, PARTITIONS, 1 << 20)
        self._way = way
        self._writer = Writer(KAFKA_URL, PARTITIONS, lambda: MadeUpProducer(way), self._note, MAX_WAITING_BYTES)

    def _reader(self) -> Any:
        if self._consumer is None:
            self._consumer = MadeUpConsumer(self._way)
        return self._consumer


class LateFactPublisher(FakeFactPublisher):
    """An engine's way to the topics, on which states may be late."""

    def __init__(self, topics: Topics) -> None:
        super().__init__(topics)
        self.way = Way(topics)
        self._real = StatesOnTheWay(self.way)

    def publish_states(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        if self.way.turn(STUCK):
            raise RuntimeError("can't start new thread")
        self._real.publish(partition, outbound)

    def mark_foreign(self, partition: int) -> None:
        self._real.mark_foreign(partition)

    def written_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        return self._real.written_by_others(partition)

    def close(self) -> None:
        self._real.close()


class LateMember(Member):
    """An engine that publishes on such a way; what fails is tried again."""

    def __init__(self, log: MemoryLog, topics: Topics, max_kept: int) -> None:
        super().__init__(log, topics, max_kept)
        self.fact_publisher: LateFactPublisher = LateFactPublisher(topics)
        self.publisher._fact_publisher = self.fact_publisher

    def publish(self) -> None:
        for _ in range(3):
            self.now_s += 10
            try:
                self.publisher.run()
                return
            except (LogError, RuntimeError):
                pass
        raise AssertionError("not more than two things go wrong at a time")


class StatesComeLate(OwnersComeAndGo):
    """Owners come and go, and so do their requests."""

    def join(self) -> LateMember:
        if not hasattr(self, "fact_publishers"):
            self.fact_publishers: list[LateFactPublisher] = []
        member = LateMember(self.log, self.topics, self.max_kept)
        self.fact_publishers.append(member.fact_publisher)
        return member

    @rule(
        which=st.integers(0, 1),
        how=st.sampled_from([LOST, UNANSWERED, LATE, LATE, STUCK, DEAF, SILENT, STRANGE, BEHIND]),
    )
    def go_wrong(self, which: int, how: str) -> None:
        member = self.members[which]
        assert isinstance(member, LateMember)
        member.fact_publisher.way.goes_wrong = how

    @rule(data=st.data())
    def land(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.fact_publishers)).way.land()

    def say_old_things(self, about: slice) -> None:
        """The late owner has the last word, twice."""
        super().say_old_things(about)
        for fact_publisher in self.fact_publishers:
            fact_publisher.way.goes_wrong = None
            for _ in range(
                (len(fact_publisher.way.in_flight) + 1) // 2 if about.start == 0 else len(fact_publisher.way.in_flight)
            ):
                fact_publisher.way.land()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            for fact_publisher in getattr(self, "fact_publishers", []):
                fact_publisher.close()


TestStatesComeLate = StatesComeLate.TestCase
TestStatesComeLate.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def owned_by_one() -> tuple[StatesComeLate, LateMember]:
    """Two engines, of which the first owns everything and has published the facts of one short session."""
    machine = StatesComeLate()
    machine.begin(1_000)
    one = machine.members[0]
    assert isinstance(one, LateMember)
    return machine, one


def test_a_request_of_its_own_that_lands_late_is_undone_by_an_owner() -> None:
    machine, one = owned_by_one()
    one.fact_publisher.way.goes_wrong = LATE
    machine.live([(key, "touch") for key in KEYS])
    machine.publish(0, follows=True)
    assert one.fact_publisher.way.in_flight, "given up, and still under way"
    machine.live([("ana", "close"), ("ben", "touch"), ("cyd", "close"), ("dan", "touch")])
    machine.publish(0, follows=True)
    machine.teardown()


def test_what_another_owner_wrote_before_its_own_next_state_is_looked_at() -> None:
    machine, one = owned_by_one()
    machine.live([(key, "touch") for key in KEYS])
    machine.publish(0, follows=True)
    for states in machine.topics.states:
        states += states[:1]
    machine.live([("dan", "touch")])
    machine.publish(0, follows=True)
    for number, states in enumerate(machine.topics.states):
        assert newest(states) == live_states(one.view.partitions[number])
    machine.teardown()


def test_what_was_written_while_there_was_no_owner_is_looked_at() -> None:
    machine, one = owned_by_one()
    two = machine.members[1]
    machine.live([(key, "touch") for key in KEYS])
    machine.publish(0, follows=True)
    one.owned = frozenset()
    for states in machine.topics.states:
        states += states[:1]
    two.owned = frozenset(range(PARTITIONS))
    machine.publish(1, follows=True)
    for number, states in enumerate(machine.topics.states):
        assert newest(states) == live_states(two.view.partitions[number])
    machine.teardown()


@pytest.mark.parametrize("how", [DEAF, SILENT, STRANGE, BEHIND, STUCK])
def test_what_could_not_be_examined_or_repaired_is_examined_again(how: str) -> None:
    machine, one = owned_by_one()
    machine.live([(key, "touch") for key in KEYS])
    machine.publish(0, follows=True)
    for states in machine.topics.states:
        states += states[:1]
    one.fact_publisher.way.goes_wrong = how
    one.publish()
    assert one.fact_publisher.way.goes_wrong is None, "it was looked at"
    for number, states in enumerate(machine.topics.states):
        assert newest(states) == live_states(one.view.partitions[number])
    machine.teardown()

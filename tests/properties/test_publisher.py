"""Owners come and go, overlap, fail and are revived; what is published is still complete.

A few engines on one memory log, each with its own view and outbox; topics that are lists; owners as the group may have
them, two at a time too. In the end one owner remains, and readers who drop what is not beyond the last place they saw
must have every fact once, in order, and the newest state of every key.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from lastseen.engine.clock import ManualClock
from lastseen.engine.commands import Commands
from lastseen.engine.errors import LogUnavailable, Refused
from lastseen.engine.fire_and_forget import FireAndForget
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Record
from lastseen.engine.log.shared_log import OutboundRecord
from lastseen.engine.session import Policy
from lastseen.engine.session_engine import SessionEngine
from lastseen.projections.facts import effect_of, facts_of, state_of
from lastseen.projections.follower import Follower
from lastseen.projections.live_view import LiveView
from lastseen.projections.outbox import Outbox
from lastseen.projections.partition import Partition
from lastseen.projections.publisher import Publisher

PARTITIONS = 2
KEYS = ["ana", "ben", "cyd", "dan"]
WHAT = ["open", "open", "touch", "close", "rotate", "suspend", "resume"]
SOURCE = "/lastseen/test"
SHARES = [frozenset[int](), frozenset({0}), frozenset({1}), frozenset({0, 1})]


class Topics:
    """The two topics, and a publisher for each engine."""

    def __init__(self) -> None:
        self.facts: list[list[tuple[str, bytes]]] = [[] for _ in range(PARTITIONS)]
        self.states: list[list[tuple[str, bytes | None]]] = [[] for _ in range(PARTITIONS)]
        self.strange: list[set[int]] = [set() for _ in range(PARTITIONS)]
        """The places of facts that strangers have written."""
        self.forgotten = [0] * PARTITIONS
        """How many facts retention has taken from each partition."""

    def ours(self, number: int) -> list[tuple[str, bytes]]:
        """The facts that no stranger has written."""
        return [fact for place, fact in enumerate(self.facts[number]) if place not in self.strange[number]]


class FakeFactPublisher:
    """One engine's way to the topics (`shared_log.FactPublisher`); can be made to fail, before or after it writes."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._seen: list[int | None] = [None] * PARTITIONS
        self._strange: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self._looked = [0] * PARTITIONS
        self.fails: str | None = None
        self.newest = 1_000
        """How far back the facts are searched."""

    def _may_fail(self, when: str) -> None:
        if self.fails == when:
            self.fails = None
            raise LogUnavailable("the broker is away")

    def publish_facts(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        self._may_fail("before facts")
        facts = [(key, value) for key, value in outbound if value is not None]
        if self.fails == "during facts":
            self._topics.facts[partition] += facts[: len(facts) // 2]
            self._may_fail("during facts")
        self._topics.facts[partition] += facts
        self._may_fail("after facts")

    def newest_facts(self, partition: int) -> Iterator[Sequence[Record]]:
        first = self._topics.forgotten[partition]
        kept = [Record(partition, first + n, 0, *each) for n, each in enumerate(self._topics.facts[partition][first:])]
        for end in range(len(kept), max(len(kept) - self.newest, 0), -3):
            yield kept[max(end - 3, 0) : end]

    def facts_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        facts, first = self._topics.facts[partition], self._looked[partition]
        self._looked[partition] = len(facts)
        yield [Record(partition, first + n, 0, *each) for n, each in enumerate(facts[first:])]

    def had_facts(self, partition: int) -> bool:
        return bool(self._topics.facts[partition])

    def publish_states(self, partition: int, outbound: Sequence[OutboundRecord]) -> None:
        self._may_fail("before states")
        if not outbound:
            return
        self._look(partition)
        self._topics.states[partition] += list(outbound)
        self._seen[partition] = len(self._topics.states[partition])
        self._may_fail("after states")

    def _look(self, partition: int) -> None:
        states = self._topics.states[partition]
        if self._seen[partition] is not None:
            self._strange[partition] += [Record(partition, 0, 0, *each) for each in states[self._seen[partition] :]]
        self._seen[partition] = len(states)

    def mark_foreign(self, partition: int) -> None:
        self._seen[partition] = 0
        self._strange[partition] = []

    def written_by_others(self, partition: int) -> Iterator[Sequence[Record]]:
        self._look(partition)
        found, self._strange[partition] = self._strange[partition], []
        for start in range(0, len(found), 3):
            yield found[start : start + 3]

    def close(self) -> None:
        pass


class Member:
    """An engine, as far as publishing is concerned."""

    def __init__(self, log: MemoryLog, topics: Topics, max_kept: int) -> None:
        self.view = LiveView([Partition(n) for n in range(PARTITIONS)], None, threading.Lock())  # type: ignore[arg-type]
        self.outbox = Outbox(PARTITIONS, SOURCE, max_kept)
        self.follower = Follower(log, self.view, [], [self.outbox])
        self.fact_publisher = FakeFactPublisher(topics)
        self.owned: frozenset[int] = frozenset()
        self.now_s = 0.0
        self.publisher = Publisher(
            log, self.view, self.outbox, self.fact_publisher, lambda: self.owned, lambda: self.now_s
        )  # fmt: skip

    def publish(self) -> None:
        self.now_s += 10
        try:
            self.publisher.run()
        except LogUnavailable:
            self.publisher.run()


class OwnersComeAndGo(RuleBasedStateMachine):
    """What can happen to a group of owners."""

    @initialize(max_kept=st.sampled_from([4, 1_000]), first_is_last=st.booleans())
    def begin(self, max_kept: int, first_is_last: bool = True) -> None:
        """The first member owns everything, and has published the facts of one short session."""
        self.clock = ManualClock()
        self.log = MemoryLog(self.clock, PARTITIONS)
        self.topics = Topics()
        self.max_kept = max_kept
        self.first_is_last = first_is_last
        self.members = [self.join(), self.join()]
        view = LiveView([Partition(n) for n in range(PARTITIONS)], NoAttributes(), threading.Lock())  # type: ignore[arg-type]
        fold = Follower(self.log, view, [])
        touches = FireAndForget(self.log, "/test", self.clock)
        loop = SessionEngine(self.log, view, fold, self.clock, touches, lambda: None, lambda *_: None)
        self.commands = Commands(
            loop, view, self.clock, touches, source="/test", policy=Policy(idle_ttl_ms=60_000)
        )  # fmt: skip
        self.members[0].owned = frozenset(range(PARTITIONS))
        self.live([(key, "open") for key in KEYS])
        self.publish(0, follows=True)

    def join(self) -> Member:
        return Member(self.log, self.topics, self.max_kept)

    @rule(happens=st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(WHAT)), min_size=3, max_size=12))
    def live(self, happens: list[tuple[str, str]]) -> None:
        for key, what in happens:
            with suppress(Refused):
                getattr(self.commands, what)(key)

    @rule(by_ms=st.sampled_from([1, 30_000, 61_000]))
    def let_time_pass(self, by_ms: int) -> None:
        self.clock.advance(by_ms)

    @rule(which=st.integers(0, 1), follows=st.booleans())
    def publish(self, which: int, follows: bool) -> None:
        if follows:
            self.members[which].follower.catch_up()
        self.members[which].publish()

    @rule(
        which=st.integers(0, 1), owned=st.sampled_from([frozenset(), frozenset({0}), frozenset({1}), frozenset({0, 1})])
    )
    def assign(self, which: int, owned: frozenset[int]) -> None:
        """Both may own one, as a zombie and its successor do; or neither."""
        self.members[which].owned = owned

    @rule(
        which=st.integers(0, 1),
        when=st.sampled_from(["before facts", "during facts", "after facts", "before states", "after states"]),
    )
    def fail(self, which: int, when: str) -> None:
        self.members[which].fact_publisher.fails = when

    @rule(which=st.integers(0, 1), keeps=st.booleans())
    def restart(self, which: int, keeps: bool) -> None:
        """From a snapshot that was taken just now, or from the log."""
        old, new = self.members[which], self.join()
        if keeps:
            for number, partition in enumerate(old.view.partitions):
                effects = old.outbox.first(number, 0, 10**9)
                new.view.partitions[number] = partition
                new.outbox.restore(
                    number,
                    old.outbox.floors[number],
                    old.outbox.published[number],
                    old.outbox.entries(number, effects),
                )
                new.follower.reset(number)
        self.members[which] = new

    @precondition(lambda self: any(self.topics.facts))
    @rule(number=st.integers(0, PARTITIONS - 1))
    def a_zombie_tells_an_old_fact(self, number: int) -> None:
        if self.topics.facts[number]:
            self.topics.facts[number].append(self.topics.facts[number][0])

    @rule(number=st.integers(0, PARTITIONS - 1), ahead=st.integers(-30, 30))
    def a_stranger_forges_a_fact(self, number: int, ahead: int) -> None:
        offset = max(self.log.end_offsets()[number] + ahead, 0)
        self.topics.strange[number].add(len(self.topics.facts[number]))
        self.topics.facts[number].append(("ana", forged(number, offset)))

    @rule(number=st.integers(0, PARTITIONS - 1), data=st.data())
    def a_zombie_writes_an_old_state(self, number: int, data: st.DataObject) -> None:
        states = self.topics.states[number]
        if states:
            states.append(data.draw(st.sampled_from(states)))

    def say_old_things(self, about: slice) -> None:
        for states in self.topics.states:
            states += states[about]

    def teardown(self) -> None:
        if not hasattr(self, "members"):
            return
        last, other = self.members if self.first_is_last else reversed(self.members)
        other.owned = frozenset()
        last.follower.catch_up()
        # A zombie has the last word before the last owner takes over, and once more while it owns.
        self.say_old_things(slice(0, 2))
        last.owned = frozenset(range(PARTITIONS))
        last.fact_publisher.fails = None
        last.publish()
        self.say_old_things(slice(2, 4))
        last.publish()
        for number in range(PARTITIONS):
            assert written(self.topics.ours(number)) == expected(self.log, number)
            assert newest(self.topics.states[number]) == live_states(last.view.partitions[number])


class NoAttributes:
    """These sessions carry nothing."""

    def in_memory(self, *_: object) -> dict[str, Any]:
        return {}


def forged(number: int, offset: int) -> bytes:
    """Something that claims to be the first fact of a record."""
    return json.dumps({"id": f"{number}-{offset}-0", "source": SOURCE, "subject": "ana"}).encode()


def written(facts: list[tuple[str, bytes]]) -> list[bytes]:
    """What a reader keeps, who drops what is not beyond the last place."""
    kept: list[bytes] = []
    last = (-1, -1)
    for key, value in facts:
        event = json.loads(value)
        place = event["data"]["offset"], event["data"]["k"]
        assert event["subject"] == key
        if place > last:
            kept.append(value)
            last = place
    return kept


def expected(log: MemoryLog, number: int) -> list[bytes]:
    """All facts of a partition, folded at one go."""
    from lastseen.projections.facts import encode

    partition, facts = Partition(number), []
    for record in log.read(number, 0, 10**9):
        effect = effect_of(partition.fold(record))
        facts += [] if effect is None else [encode(fact, SOURCE) for fact in facts_of(number, effect)]
    return facts


def newest(states: list[tuple[str, bytes | None]]) -> dict[str, Any]:
    """What a compacted topic comes to."""
    found = dict(states)
    return {key: json.loads(value)["data"] for key, value in found.items() if value is not None}


def live_states(partition: Partition) -> dict[str, Any]:
    return {session.key: state_of(session) for session in partition.by_id.values()}


TestOwnersComeAndGo = OwnersComeAndGo.TestCase
TestOwnersComeAndGo.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_outbox_spares_a_new_owner_the_fold() -> None:
    machine = OwnersComeAndGo()
    machine.begin(1_000)
    one, two = machine.members
    one.owned = frozenset({0, 1})
    for key in KEYS:
        machine.commands.open(key)
        one.follower.catch_up()
        two.follower.catch_up()
        one.publish()
        two.publish()
        assert sum(map(two.outbox.pending, range(PARTITIONS))) <= 4, "what the owner has published is dropped"
    one.owned, two.owned = frozenset(), frozenset({0, 1})
    machine.commands.touch("ana")
    two.follower.catch_up()
    two.publish()
    assert two.publisher.refolded == 0
    machine.members.reverse()
    machine.teardown()


def test_what_retention_has_taken_is_not_published_again() -> None:
    machine = OwnersComeAndGo()
    machine.begin(1_000)
    one, two = machine.members
    one.owned = frozenset({0, 1})
    for key in KEYS:
        machine.commands.open(key)
    one.follower.catch_up()
    one.publish()
    machine.topics.forgotten = [len(each) for each in machine.topics.facts]
    before = [len(each) for each in machine.topics.facts]
    for number, partition in enumerate(one.view.partitions):
        two.view.partitions[number] = partition
        two.outbox.restore(number, partition.checkpoint, partition.checkpoint, [])
        two.follower.reset(number)
    one.owned, two.owned = frozenset(), frozenset({0, 1})
    two.publish()
    assert [len(each) for each in machine.topics.facts] == before
    assert two.publisher.refolded == 0


def test_a_record_of_which_half_was_published_is_published_whole() -> None:
    machine = OwnersComeAndGo()
    machine.begin(1_000)
    machine.commands.rotate("ana")  # ends one session and begins another: two facts
    one = machine.members[0]
    one.follower.catch_up()
    one.publish()
    (number,) = [n for n in range(PARTITIONS) if json.loads(machine.topics.facts[n][-1][1])["data"]["k"] == 1]
    del machine.topics.facts[number][-1]
    one.owned = frozenset()
    machine.first_is_last = False
    machine.teardown()
    assert json.loads(machine.topics.facts[number][-1][1])["data"]["k"] == 1, "the second is there again"


def test_an_old_state_that_no_owner_saw_being_written_is_found() -> None:
    machine = OwnersComeAndGo()
    machine.begin(1_000)
    one, two = machine.members
    machine.live([(key, "touch") for key in KEYS] * 2)
    one.follower.catch_up()
    one.publish()
    one.owned = frozenset()
    for states in machine.topics.states:
        states += states[:1]
    two.owned = frozenset(range(PARTITIONS))
    two.follower.catch_up()
    two.publish()
    for number, states in enumerate(machine.topics.states):
        assert newest(states) == live_states(two.view.partitions[number])

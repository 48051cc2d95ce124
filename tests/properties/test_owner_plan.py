"""The plan of owners: no partition leaves a member that serves it before another can, and all ends in balance."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from lastseen.engine.log.kafka.owner_plan import GroupMember, plan_owners

MOST_ROUNDS = 20


@dataclass
class Engine:
    """One member, as its group sees it."""

    owned: frozenset[int] = frozenset()
    present: set[int] = field(default_factory=set)
    caught_up: set[int] = field(default_factory=set)
    has_room: bool = True

    def says(self, standbys: int) -> GroupMember:
        return GroupMember(
            self.owned, frozenset(self.caught_up), frozenset(self.present), standbys, self.has_room
        )  # fmt: skip

    def hold(self, wanted: frozenset[int]) -> None:
        """Hold what is wanted, and nothing else."""
        if self.has_room:
            self.present = set(wanted)
            self.caught_up &= wanted


class Groups(RuleBasedStateMachine):
    """Engines join, catch up, crash and leave; after each round the plan is carried out."""

    @initialize(partitions=st.integers(1, 8), standbys=st.integers(0, 2), everything=st.booleans())
    def begin(self, partitions: int, standbys: int, everything: bool) -> None:
        self.partitions, self.standbys, self.everything = range(partitions), standbys, everything
        self.engines: dict[str, Engine] = {}
        self.made = 0

    @precondition(lambda self: len(self.engines) < 5)
    @rule()
    def join(self) -> None:
        self.made += 1
        numbers = set(self.partitions) if self.everything else set[int]()
        self.engines[f"member-{self.made}"] = Engine(
            present=set(numbers), caught_up=set(numbers), has_room=not self.everything
        )

    @precondition(lambda self: self.engines)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        del self.engines[data.draw(st.sampled_from(sorted(self.engines)))]

    @precondition(lambda self: self.engines)
    @rule(data=st.data())
    def catch_up(self, data: st.DataObject) -> None:
        engine = self.engines[data.draw(st.sampled_from(sorted(self.engines)))]
        if engine.present:
            engine.caught_up |= set(data.draw(st.lists(st.sampled_from(sorted(engine.present)))))

    @precondition(lambda self: self.engines)
    @rule()
    def round(self) -> None:
        before = {number: name for name, engine in self.engines.items() for number in engine.owned}
        plan = plan_owners(self.partitions, {name: each.says(self.standbys) for name, each in self.engines.items()})
        given = [number for owned in plan.owned.values() for number in owned]
        assert len(given) == len(set(given)), "one owner at the most"
        assert plan.serving.keys() == set(self.partitions)
        for number, name in plan.serving.items():
            old, engine = before.get(number), self.engines[name]
            if old is None:
                assert number in plan.owned[name], "what has no owner is given at once"
                assert number in engine.caught_up or not any(number in each.caught_up for each in self.engines.values())
            elif old != name:
                assert number in engine.caught_up, "it moves to a member that has caught up with it"
                assert not any(number in owned for owned in plan.owned.values()), "and only once it was given up"
                assert number in plan.incoming[name], "which holds it meanwhile"
            else:
                assert number in plan.owned[name]
        for name, engine in self.engines.items():
            assert not plan.owned[name] & (plan.incoming[name] | plan.standby[name])
            engine.owned = plan.owned[name]
            engine.hold(plan.owned[name] | plan.incoming[name] | plan.standby[name])

    def seen(self) -> dict[str, tuple[frozenset[int], ...]]:
        return {
            name: (each.owned, frozenset(each.present), frozenset(each.caught_up))
            for name, each in self.engines.items()
        }

    def teardown(self) -> None:
        if not getattr(self, "engines", None):
            return
        for _ in range(MOST_ROUNDS):
            before = self.seen()
            self.round()
            for engine in self.engines.values():
                engine.caught_up = set(engine.present)
            if before == self.seen():
                break
        else:
            raise AssertionError("it does not come to rest")
        shares = [len(engine.owned) for engine in self.engines.values()]
        assert sum(shares) == len(self.partitions)
        assert max(shares) - min(shares) <= 1
        copies = len(self.engines) if self.everything else 1 + min(self.standbys, len(self.engines) - 1)
        for number in self.partitions:
            assert sum(number in engine.present for engine in self.engines.values()) == copies


Groups.TestCase.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)
TestGroups = Groups.TestCase


@given(st.integers(1, 12), st.integers(1, 5))
def test_members_that_come_together_share_evenly_at_once(partitions: int, members: int) -> None:
    plan = plan_owners(range(partitions), {f"member-{n}": GroupMember() for n in range(members)})
    shares = [len(owned) for owned in plan.owned.values()]
    assert max(shares) - min(shares) <= 1
    assert not any(plan.incoming.values())


def test_a_newcomer_loads_its_share_and_owns_it_when_it_has_caught_up() -> None:
    old = GroupMember(frozenset({0, 1}), frozenset({0, 1}), frozenset({0, 1}))
    plan = plan_owners(range(2), {"old": old, "new": GroupMember()})
    assert plan.owned == {"old": {0, 1}, "new": frozenset()}
    (number,) = plan.incoming["new"]
    new = GroupMember(caught_up=frozenset({number}), present=frozenset({number}))
    plan = plan_owners(range(2), {"old": old, "new": new})
    assert plan.owned == {"old": {1 - number}, "new": frozenset()}
    assert plan.serving[number] == "new"
    old = old._replace(owned=frozenset({1 - number}))
    plan = plan_owners(range(2), {"old": old, "new": new})
    assert plan.owned == {"old": {1 - number}, "new": {number}}


def test_a_standby_takes_over_from_an_owner_that_is_gone() -> None:
    ready = GroupMember(frozenset({1}), frozenset({0, 1}), frozenset({0, 1}), standbys=1)
    plan = plan_owners(range(2), {"newcomer": GroupMember(standbys=1), "standby": ready})
    assert plan.owned["standby"] == {0, 1}
    assert plan.incoming["newcomer"]


def test_a_partition_without_an_owner_goes_to_a_member_that_has_caught_up_and_not_to_one_that_loads_it() -> None:
    ready = GroupMember(frozenset({1}), frozenset({0, 1}), frozenset({0, 1}))
    loading = GroupMember(present=frozenset({0}))
    plan = plan_owners(range(2), {"loading": loading, "ready": ready})
    assert plan.owned == {"loading": frozenset(), "ready": {0, 1}}

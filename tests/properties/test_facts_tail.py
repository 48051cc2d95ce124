"""Where a new owner continues after strangers have written to the topic of facts: no fact is missing behind those.

Each test begins with one owner that has published a little life, and lets another take over.
"""

from __future__ import annotations

import json

import pytest

from lastseen.engine.log.port import Mark, Record
from lastseen.projections.facts import FactId, published_fact_id
from tests.properties.test_publisher import KEYS, PARTITIONS, SOURCE, Member, OwnersComeAndGo, expected, forged, written

FAR = 10**12


def taken_over(machine: OwnersComeAndGo, heir: Member) -> None:
    """The heir owns everything, and publishes; in the end every fact is there, in order."""
    machine.members[0].owned = frozenset()
    heir.owned = frozenset(range(PARTITIONS))
    heir.follower.catch_up()
    heir.publish()
    for number in range(PARTITIONS):
        assert written(machine.topics.ours(number)) == expected(machine.log, number)


def strange(machine: OwnersComeAndGo, key: str, value: bytes) -> None:
    """Something strange stands last in each partition."""
    for number, facts in enumerate(machine.topics.facts):
        machine.topics.strange[number].add(len(facts))
        facts.append((key, value))


def begun() -> tuple[OwnersComeAndGo, Member]:
    """A machine whose first member has published, and of whose later records nothing is published yet."""
    machine = OwnersComeAndGo()
    machine.begin(1_000)
    machine.members[1].follower.catch_up()
    machine.members[1].publish()  # it sees what is published
    machine.live([(key, "touch") for key in KEYS])
    return machine, machine.members[1]


def count(machine: OwnersComeAndGo) -> int:
    return sum(len(machine.topics.ours(number)) for number in range(PARTITIONS))


GARBAGE = [b"", b"no fact", b"[]", b"{}", b'{"id":7,"source":"/x"}']


@pytest.mark.parametrize("value", [*GARBAGE, forged(0, FAR), forged(1, FAR)])
def test_a_stranger_stands_last(value: bytes) -> None:
    machine, heir = begun()
    before = count(machine)
    strange(machine, "ana", value)
    taken_over(machine, heir)
    assert count(machine) <= before + len(KEYS) + PARTITIONS, "published again is no more than the last fact of each"


def test_a_fact_under_another_key_does_not_count() -> None:
    machine, heir = begun()
    machine.members[0].follower.catch_up()
    for number in range(PARTITIONS):
        strange(machine, "unowned", expected(machine.log, number)[-1])
    taken_over(machine, heir)


def test_a_fact_in_other_bytes_does_not_count() -> None:
    machine, heir = begun()
    for number in range(PARTITIONS):
        fact = json.loads(expected(machine.log, number)[-1])
        value = json.dumps(fact | {"subject": fact["subject"]}).encode()  # the same, with spaces
        machine.topics.strange[number].add(len(machine.topics.facts[number]))
        machine.topics.facts[number].append((fact["subject"], value))
    taken_over(machine, heir)


def test_behind_more_strangers_than_are_searched_it_goes_on_where_all_was_published() -> None:
    machine, heir = begun()
    for _ in range(10):
        strange(machine, "ana", forged(0, FAR))
    heir.fact_publisher.newest = 9
    before = count(machine)
    taken_over(machine, heir)
    assert heir.publisher.refolded == 0
    assert count(machine) <= before + len(KEYS) + PARTITIONS


def test_an_engine_that_knows_nothing_publishes_all_again() -> None:
    machine, _ = begun()
    for _ in range(10):
        strange(machine, "ana", b"no fact")
    heir = machine.join()
    heir.fact_publisher.newest = 9
    before = count(machine)
    taken_over(machine, heir)
    assert count(machine) == before + sum(len(expected(machine.log, number)) for number in range(PARTITIONS))


def test_a_claim_of_what_the_outbox_no_longer_has_is_verified_by_a_fold() -> None:
    machine, _ = begun()
    machine.live([(key, "touch") for key in KEYS * 3])
    heir = machine.join()
    heir.outbox._max_kept = 1
    strange(machine, "ana", forged(0, 1))
    strange(machine, "ana", forged(1, 1))
    before = count(machine)
    taken_over(machine, heir)
    assert heir.publisher.refolded > 0
    assert count(machine) <= before + 4 * len(KEYS) + PARTITIONS, "what was published before is not published again"


def test_an_heir_that_is_behind_waits_until_it_has_folded_what_is_published() -> None:
    machine, heir = begun()
    one = machine.members[0]
    one.follower.catch_up()
    one.publish()
    facts = [list(each) for each in machine.topics.facts]
    states = [list(each) for each in machine.topics.states]
    one.owned, heir.owned = frozenset(), frozenset(range(PARTITIONS))
    heir.publish()
    assert machine.topics.facts == facts
    assert machine.topics.states == states
    taken_over(machine, heir)


def test_an_heir_waits_once_whatever_strangers_forge() -> None:
    machine, heir = begun()
    heir.owned = frozenset(range(PARTITIONS))
    for turn in range(3):
        machine.live([(key, "touch") for key in KEYS])
        for number, end in enumerate(machine.log.end_offsets()):
            machine.topics.strange[number].add(len(machine.topics.facts[number]))
            machine.topics.facts[number].append(("ana", forged(number, end - 1)))
        before = count(machine)
        heir.publish()
        assert (count(machine) > before) == bool(turn)
        heir.follower.catch_up()
    taken_over(machine, heir)


def test_a_follower_drops_only_what_was_published() -> None:
    machine, follower = begun()
    follower.follower.catch_up()
    strange(machine, "ana", forged(0, FAR))
    strange(machine, "ana", forged(1, FAR))
    for number, end in enumerate(machine.log.end_offsets()):
        strange(machine, "ana", forged(number, end - 1))
    pending = sum(map(follower.outbox.pending, range(PARTITIONS)))
    follower.publish()
    assert sum(map(follower.outbox.pending, range(PARTITIONS))) == pending > 0
    taken_over(machine, follower)


def test_strangers_are_counted_and_owners_are_not() -> None:
    machine, heir = begun()
    taken_over(machine, heir)
    assert heir.publisher.strangers.total() == 0
    strange(machine, "ana", b"no fact")
    strange(machine, "ana", forged(0, FAR))
    strange(machine, "ana", forged(1, FAR))
    for number, fact in enumerate(expected(machine.log, number)[-1] for number in range(PARTITIONS)):
        forged_key = "not " + json.loads(fact)["subject"]
        machine.topics.strange[number].add(len(machine.topics.facts[number]))
        machine.topics.facts[number].append((forged_key, fact))
        machine.topics.states[number] += [("ana", b"no state"), ("zed", b'{"data":{}}')]
    heir.publish()
    assert heir.publisher.strangers == {"facts": 4 * PARTITIONS, "state": 2 * PARTITIONS}
    heir.publish()
    assert heir.publisher.strangers.total() == 6 * PARTITIONS, "each once"


def test_facts_are_published_anew_where_their_topic_was_made_anew() -> None:
    machine, heir = begun()
    machine.topics.facts = [[] for _ in range(PARTITIONS)]
    taken_over(machine, heir)


def test_what_is_published_does_not_go_into_the_outbox() -> None:
    machine, _ = begun()
    machine.live([(key, "touch") for key in KEYS * 3])
    machine.members[0].follower.catch_up()
    machine.members[0].publish()
    heir = machine.join()
    heir.publisher.skip_published(range(PARTITIONS))
    heir.follower.catch_up()
    assert [heir.outbox.pending(number) for number in range(PARTITIONS)] == [1] * PARTITIONS, "the last one stays"
    before = count(machine)
    taken_over(machine, heir)
    assert heir.publisher.refolded == 0
    assert count(machine) <= before + 2 * PARTITIONS


@pytest.mark.parametrize("ahead", [1, 3, 10])
def test_what_a_stranger_says_is_published_is_published_all_the_same(ahead: int) -> None:
    machine, _ = begun()
    for number, end in enumerate(machine.log.end_offsets()):
        machine.topics.strange[number].add(len(machine.topics.facts[number]))
        machine.topics.facts[number].append(("ana", forged(number, end - ahead)))
    heir = machine.join()
    heir.publisher.skip_published(range(PARTITIONS))
    taken_over(machine, heir)


@pytest.mark.parametrize("known", [True, False])
def test_a_start_that_ends_while_it_skips_loses_nothing(known: bool) -> None:
    machine, _ = begun()
    machine.members[0].follower.catch_up()
    machine.members[0].publish()
    first = machine.join()
    first.publisher.skip_published(range(PARTITIONS))
    for number in range(PARTITIONS):  # as far as the record before the last
        partition = first.view.partitions[number]
        for record in machine.log.read(number, 0, machine.log.end_offsets()[number] - 1):
            first.outbox.on_record(partition, partition.fold(record))
    heir = machine.join()
    for number, partition in enumerate(first.view.partitions):
        heir.view.partitions[number] = partition
        heir.outbox.restore(number, first.outbox.floors[number], first.outbox.published[number], [])
        heir.follower.reset(number)
    if not known:  # nothing is left in the topic that says what was published
        machine.topics.forgotten = [len(each) for each in machine.topics.facts]
    heir.publisher.skip_published(range(PARTITIONS))
    taken_over(machine, heir)
    if not known:
        for number, forgotten in enumerate(machine.topics.forgotten):
            due = [json.loads(fact)["data"]["offset"] for fact in expected(machine.log, number)]
            again = [json.loads(fact)["data"]["offset"] for _, fact in machine.topics.facts[number][forgotten:]]
            assert again == [offset for offset in due if offset >= first.outbox.published[number]]


@pytest.mark.parametrize("mark", Mark)
def test_a_marked_record_is_no_fact(mark: Mark) -> None:
    value = forged(0, 7)
    assert published_fact_id(Record(0, 0, 0, "ana", value), SOURCE) == FactId(0, 7, 0)
    assert published_fact_id(Record(0, 0, 0, "ana", value, mark), SOURCE) is None
    assert published_fact_id(Record(0, 0, 0, "ana", value), "/another/log") is None
    assert published_fact_id(Record(0, 0, 0, None, value), SOURCE) is None
    assert published_fact_id(Record(0, 0, 0, "ana", None), SOURCE) is None

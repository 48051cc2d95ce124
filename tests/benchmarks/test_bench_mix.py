"""The workload: the same for all, in the shares that it names, and only on sessions that live."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from benchmarks.mix import SHARES, Mix, Operation, Roll, of_chat
from lastseen.replay.recording import SLICE, read_chat

pytestmark = pytest.mark.thorough


def test_the_same_seed_draws_the_same() -> None:
    assert Mix(100, seed=3).operations(500) == Mix(100, seed=3).operations(500)
    assert Mix(100, seed=3).operations(500) != Mix(100, seed=4).operations(500)


def test_shares_are_those_that_are_named() -> None:
    counted = Counter(operation.kind for operation in Mix(1_000).operations(40_000))
    assert sum(SHARES.values()) == 100
    for kind, share in SHARES.items():
        assert counted[kind] / 400 == pytest.approx(share, abs=max(0.15 * share, 0.1)), kind


def test_a_few_sessions_get_most_of_it() -> None:
    touched = Counter(operation.key for operation in Mix(10_000).touches(20_000))
    most_popular = sum(count for _, count in touched.most_common(1_000))
    assert 0.6 < most_popular / 20_000 < 0.9


@pytest.mark.parametrize("sessions", [1, 30, 1_000])
def test_every_operation_is_on_a_session_in_the_right_state(sessions: int) -> None:
    mix = Mix(sessions) if sessions > 20 else Mix(21)
    states = dict.fromkeys(mix.first, "active")
    before = {"touch": "active", "read": "active", "suspend": "active", "close": "active", "resume": "suspended"}
    after = {"suspend": "suspended", "resume": "active", "create": "active"}
    judge = Roll(len(mix.first))
    for key in mix.first:
        judge.create(key)
    for operation in mix.operations(5_000):
        kind, key = operation
        assert states.get(key) == before.get(kind), operation
        evicted = judge.do(operation)
        states[key] = after.get(kind, "active")
        if kind == "close":
            del states[key]
        if evicted is not None:
            del states[evicted]
        assert len(states) <= len(mix.first)
    assert set(mix.roll.active) == {key for key, state in states.items() if state == "active"}


def test_who_is_one_too_many_is_the_least_recently_used_and_never_suspended() -> None:
    roll = Roll(3)
    for key in "abc":
        roll.create(key)
    roll.do(Operation("suspend", "a"))
    roll.do(Operation("touch", "b"))
    assert roll.create("d") == "c"
    assert sorted([*roll.active, *roll.suspended]) == ["a", "b", "d"]


def test_chat_is_created_touched_and_closed_as_people_come_and_go() -> None:
    events = list(islice(read_chat(SLICE), 8_000))
    operations = of_chat(events, 50)
    kinds = Counter(kind for kind, _ in operations)
    assert set(kinds) <= {"create", "touch", "close"}
    assert kinds["create"] > 50
    assert kinds["touch"] > kinds["create"]
    roll = Roll(50)
    for operation in operations:
        assert (operation.key in roll) == (operation.kind != "create")
        roll.do(operation)
    assert len(roll.active) <= 50

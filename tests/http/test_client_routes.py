"""A client with several addresses: which it asks first, where it goes when one is dead or frozen, what it remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driven import (
    FROZEN,
    ID,
    KEY,
    REFUSED,
    RESET,
    UNREACHABLE,
    Clock,
    Driven,
    connected,
    owned_by,
    planned,
    problem,
    session,
)  # fmt: skip

from lastseen.api.problems import Problem
from lastseen.client import commands as calls
from lastseen.client import reads
from lastseen.client.address import addresses_of
from lastseen.client.call import Call, NoResponse, Response
from lastseen.client.retries import Send
from lastseen.engine.errors import EngineClosed, LogUnavailable, NotOwner, OutcomeUnknown, OwnerState
from lastseen.engine.partitioner import partition_of

TWO, THREE = "http://one:1,http://two:1", "http://one:1,http://two:1,http://three:1"
OTHER = next(key for n in range(100) if partition_of(key := f"user:{n}", 12) != partition_of(KEY, 12))
WITH_MESSAGE = calls.touch(KEY, message="hello")


def served(key: str = KEY) -> Response:
    """A success by the owner of a key's partition."""
    return session({"position": f"{partition_of(key, 12)}:7", "partitions": "12"}, key=key)


def by_host(**answers: Response | NoResponse) -> Callable[[Send], Response | NoResponse]:
    """A script in which each host always gives the same answer."""
    return lambda sent: answers[sent.address.host]


def test_several_addresses_are_a_sequence_or_a_text_with_commas() -> None:
    wanted = ["http://one:1", "https://two:443/base"]
    for given in ("http://one:1, https://two/base,http://one:1/", ["http://one:1", "https://two/base"]):
        assert [str(each) for each in addresses_of(given)] == wanted


@pytest.mark.parametrize("lost", [REFUSED, UNREACHABLE, FROZEN, RESET])
def test_what_one_address_does_not_answer_another_is_asked_at_once(lost: NoResponse) -> None:
    driven = Driven(calls.touch(KEY), by_host(one=lost, two=served()), address=TWO)
    assert (driven.asked, driven.pauses) == (["one", "two"], [])
    assert driven.took_s == (3 if lost is FROZEN else 2 if lost is UNREACHABLE else 0)


def test_a_connection_that_is_not_made_leaves_time_to_ask_another_even_for_what_must_not_be_sent_twice() -> None:
    driven = Driven(WITH_MESSAGE, by_host(one=UNREACHABLE, two=served()), address=TWO)
    assert (driven.asked, driven.took_s) == (["one", "two"], 2)
    frozen = Driven(WITH_MESSAGE, by_host(one=FROZEN), address=TWO)
    assert (frozen.asked, frozen.took_s, type(frozen.error)) == (["one"], 10, OutcomeUnknown)


def test_a_frozen_instance_costs_one_call_its_time_and_the_next_calls_nothing() -> None:
    connection = connected(address=TWO)
    answers = by_host(one=FROZEN, two=served())
    assert Driven(reads.get(KEY), answers, connection=connection).took_s == 3
    for call in (reads.get(KEY), reads.get(OTHER), reads.list(), WITH_MESSAGE):
        driven = Driven(call, lambda sent: FROZEN if sent.address.host == "one" else served(sent.path[-6:] and OTHER)
                        if "user" in sent.path else PAGE if sent.path.endswith("/sessions") else served(),
                        connection=connection)  # fmt: skip
        assert (driven.asked, driven.took_s) == (["two"], 0)


PAGE = Response(200, {}, b'{"sessions":[],"cursor":null}')


def test_an_address_that_was_silent_is_tried_again_by_one_call_at_a_time() -> None:
    connection = connected(address=TWO)
    answers = by_host(one=FROZEN, two=PAGE)
    assert Driven(reads.list(), answers, connection=connection).asked == ["one", "two"]
    turn(connection.now_s, 4)
    unsafe = calls.touch(OTHER, message="hello")
    assert Driven(unsafe, by_host(one=FROZEN, two=session(key=OTHER)), connection=connection).asked == ["two"]
    assert Driven(reads.list(), answers, connection=connection).asked == ["one", "two"]
    turn(connection.now_s, 4)
    assert Driven(reads.list(), answers, connection=connection).asked == ["two"], "twice as long each time"
    turn(connection.now_s, 4)
    assert Driven(reads.list(), by_host(one=PAGE), connection=connection).asked == ["one"]
    assert Driven(unsafe, by_host(one=session(key=OTHER)), connection=connection).asked == ["one"], "it has answered"


def turn(clock: Any, seconds: float) -> None:
    """Let time go by."""
    assert isinstance(clock, Clock)
    clock.now_s += seconds


def test_the_only_address_is_asked_whatever_it_did() -> None:
    connection = connected()
    for lost in (FROZEN, REFUSED):
        Driven(reads.get(KEY), lambda _, lost=lost: lost, connection=connection)
        assert Driven(WITH_MESSAGE, [session()], connection=connection).asked == ["one"]


def test_the_owner_of_a_partition_is_remembered() -> None:
    connection = connected(address=THREE)
    script = [owned_by("http://three:1"), served()]
    assert Driven(reads.get(KEY), script, connection=connection).asked == ["one", "three"]
    for call in (reads.get(KEY), WITH_MESSAGE, calls.open(KEY), reads.history(KEY)):
        assert Driven(call, by_host(three=served()), connection=connection).asked == ["three"]
    assert Driven(reads.get(OTHER), [served(OTHER)], connection=connection).asked == ["one"]
    moved = [owned_by("http://two:1"), served()]
    assert Driven(reads.get(KEY), moved, connection=connection).asked == ["three", "two"]
    assert Driven(reads.get(KEY), [served()], connection=connection).asked == ["two"]
    vacant = owned_by(None, OwnerState.VACANT)
    lost = Driven(reads.get(KEY), [vacant, vacant, vacant, served()], connection=connection)
    assert lost.asked == ["two", "one", "three", "one"], "once it disowns the partition, it is asked like the others"


@pytest.mark.parametrize("dead", [REFUSED, FROZEN, UNREACHABLE])
@pytest.mark.parametrize("call", [reads.get(KEY), calls.touch(KEY)], ids=["get", "touch"])
def test_a_dead_owner_is_left_for_the_other_addresses_until_another_takes_over(
    dead: NoResponse, call: Call[Any]
) -> None:
    connection = connected(timeout_s=30, address=THREE)
    until_s = connection.now_s() + 10

    def cluster(sent: Send) -> Response | NoResponse:
        host = sent.address.host
        if host == "three":
            return dead
        if connection.now_s() < until_s:
            return owned_by("http://three:1")
        return served() if host == "two" else owned_by("http://two:1")

    driven = Driven(call, cluster, connection=connection)
    assert driven.error is None
    assert driven.asked[:3] == ["one", "three", "two"]
    assert 10 <= driven.took_s < 14
    assert len(driven.sent) < 100
    assert Driven(call, cluster, connection=connection).asked == ["two"]


def test_twelve_tries_are_not_the_end_of_a_call() -> None:
    driven = Driven(reads.get(KEY), lambda _: owned_by(None, OwnerState.VACANT), timeout_s=30)
    assert isinstance(driven.error, NotOwner)
    assert 29.9 < driven.took_s <= 30
    assert max(driven.pauses) == 0.375, "a partition moves in a moment: the second that Retry-After has is for others"


def test_an_owner_that_answers_again_is_asked_soon() -> None:
    connection = connected(timeout_s=30, address=TWO)
    back_s = connection.now_s() + 8
    answers: Callable[[Send], Response | NoResponse] = lambda sent: (  # noqa: E731
        owned_by("http://three:1") if sent.address.host != "three"
        else FROZEN if connection.now_s() < back_s else served()
    )  # fmt: skip
    driven = Driven(reads.get(KEY), answers, connection=connection)
    assert driven.error is None
    assert driven.took_s < 8 + 4 + 3


def test_an_instance_that_shuts_down_is_left_at_once_and_a_log_that_is_down_is_waited_for() -> None:
    leaving = problem(EngineClosed("bye"))
    driven = Driven(WITH_MESSAGE, by_host(one=leaving, two=served()), address=TWO)
    assert (driven.asked, driven.pauses) == (["one", "two"], [])
    down = Driven(WITH_MESSAGE, [problem(LogUnavailable("locked")), served()], address=TWO)
    assert (down.asked, down.pauses) == (["one", "one"], [pytest.approx(1.125)])
    slow = problem(Problem(429, "too-many-requests", "slow down", headers={"Retry-After": "1"}))
    assert Driven(reads.get(KEY), [slow, served()], address=TWO).asked == ["one", "one"], "no way around a limit"
    proxy = Response(502, {}, b"<html>")
    assert Driven(reads.get(KEY), by_host(one=proxy, two=served()), address=TWO).asked == ["one", "two"]


def test_a_connection_that_was_not_free_says_nothing_of_the_service() -> None:
    connection = connected(address=TWO)
    queued = NoResponse("10 calls were under way", False, was_queued=True)
    assert Driven(WITH_MESSAGE, [queued, served()], connection=connection).asked == ["one", "one"]


def test_an_instance_that_was_learnt_of_stands_in_for_the_only_address() -> None:
    connection = connected(timeout_s=30)
    Driven(reads.get(OTHER), [owned_by("http://two:1"), served(OTHER)], connection=connection)
    driven = Driven(reads.get(KEY), by_host(one=FROZEN, two=served()), connection=connection)
    assert (driven.asked, driven.took_s) == (["one", "two"], 3)


def test_a_plan_is_carried_out_where_it_was_made() -> None:
    driven = Driven(calls.prune(), [REFUSED, planned("a"), planned("a")], address=TWO)
    assert driven.asked == ["one", "two", "two"]


def test_what_may_have_been_done_at_one_instance_is_unknown_whatever_another_says() -> None:
    for call in (WITH_MESSAGE, calls.close(KEY), calls.update(KEY, {"n": 1})):
        driven = Driven(call, [RESET], address=TWO)
        assert (type(driven.error), driven.asked) == (OutcomeUnknown, ["one"])
    ended = Driven(calls.close(KEY, session_id=ID), [RESET, REFUSED, NoResponse("gone", False)], 0.1, is_whole=False)
    assert type(ended.error) is OutcomeUnknown

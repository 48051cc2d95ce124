"""The comparison of two logs sees everything about a session but its places, and keeps no more than it must."""

from __future__ import annotations

from typing import Any

import pytest
from stories import NOON_MS, Recording, everything, long_id

from lastseen.copying.comparison import (
    Difference,
    Folded,
    Ledger,
    ending_differences,
    session_differences,
    statistic_differences,
)
from lastseen.engine.session import Policy, Session
from lastseen.projections.partition import Partition

PLACES = {"last_active_offset", "wake_ms"}
"""Where a session's records stand, and when the wheel looks at it: these differ from log to log."""
CHANGES: dict[str, Any] = {
    "key": "another", "session_id": "x" * 22, "policy": Policy(max_age_ms=7), "last_active_at_ms": NOON_MS + 77,
    "version": 77, "suspended_at_ms": NOON_MS + 7, "suspended_ms": 7, "leases": {"job": NOON_MS + 7}, "owner": "eve",
    "began": 7,
}  # fmt: skip


def folded(log: Recording) -> tuple[Folded, Ledger]:
    """What a log comes to."""
    partitions, ledger = [Partition(number) for number in range(log.partitions)], Ledger(log.partitions)
    for record in everything(log):
        partition = partitions[record.partition]
        ledger.take(partition, partition.fold(record))
    return Folded(partitions, ledger), ledger


def one_session(partition: int | None = None, partitions: int = 2) -> Recording:
    """A log with one live session, in the partition that its key has, or in another."""
    log = Recording(partitions)
    log.put(NOON_MS, "rubbish", b"", 0)
    log.create(NOON_MS, "ana", "s1", partition=partition, attributes={"a": 1}, event_id="first")
    log.tell(NOON_MS + 1, "touched", "ana", "s1", partition=partition, message="hello", event_id="second")
    return log


def differences(one: Recording, other: Recording) -> list[Difference]:
    """What two logs differ in."""
    (wanted, ledger), (found, others) = folded(one), folded(other)
    return [
        *session_differences(wanted, found),
        *statistic_differences(wanted, found, 0),
        *ending_differences(ledger, others, lambda buckets: pytest.fail("there are no endings")),
    ]


def test_what_is_the_same_is_the_same_wherever_it_stands() -> None:
    other = one_session(partitions=5)
    other.put(NOON_MS, "rubbish", b"")
    assert differences(one_session(), other) == []
    assert differences(one_session(0), one_session(1)) == []


def test_every_field_of_a_session_counts() -> None:
    assert set(CHANGES) | PLACES == set(Session.__struct_fields__)
    for name, value in CHANGES.items():
        (wanted, _), (found, _) = folded(one_session()), folded(one_session())
        (session,) = [each for partition in found.partitions for each in partition.active.values()]
        setattr(session, name, value)
        assert list(session_differences(wanted, found)), name
    assert list(session_differences(wanted, wanted)) == []


@pytest.mark.parametrize("partition", [0, 1])
def test_a_session_that_one_of_the_two_lacks_is_named(partition: int) -> None:
    # In one of these partitions it is a stray, which no read finds by its key.
    one, none = folded(one_session(partition))[0], folded(Recording(2))[0]
    assert list(session_differences(one, none)) == [Difference("session", "ana", "1 live", "0 live")]
    assert list(session_differences(none, one)) == [Difference("session", "ana", None, "live")]


def test_a_limit_that_was_taken_back_counts_for_the_messages_meanwhile() -> None:
    def with_limit(most: int) -> Recording:
        log = one_session()
        log.tell(NOON_MS + 2, "touched", "ana", "s1", policy={"max_messages": most})
        log.tell(NOON_MS + 3, "touched", "ana", "s1", message="hello again")
        log.tell(NOON_MS + 4, "touched", "ana", "s1", policy={"max_messages": 100})
        return log

    assert differences(with_limit(5), with_limit(5)) == []
    assert [each.name for each in differences(with_limit(5), with_limit(1))] == ["ana"]


def test_nothing_is_kept_of_the_bodies_of_sessions_that_have_ended() -> None:
    log = one_session()
    log.create(NOON_MS + 2, "bob", "s2", attributes={"b": 2})
    log.tell(NOON_MS + 3, "closed", "ana", "s1", reason="logout")
    _, ledger = folded(log)
    assert [session for bodies in ledger.bodies for session in bodies] == [long_id("s2")]

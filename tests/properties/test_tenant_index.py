"""A listing by a registered prefix finds what a scan finds, after any history, and goes through no other session."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.engine.log.port import Record
from lastseen.engine.session import Session, SessionView
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Partition
from lastseen.projections.prefix_index import PrefixIndex
from tests.properties.histories import KEYS, WrittenRecord, history

PREFIXES = ("irc:", "irc:#ubuntu:a", "telegram:", "telegram:42:é", "i", "stranger:")
OWNERS = (None, "u1", "u2", "stranger")


class NoAttributes:
    """Sessions here have none in memory."""

    def in_memory(self, *_: Any) -> Mapping[str, Any] | None:
        """None."""
        return {}

    def load(self, *_: Any) -> Mapping[str, Any]:
        """None either."""
        return {}


def view_of(partition: Partition, lock: Any = None) -> LiveView:
    return LiveView([partition], NoAttributes(), lock or nullcontext())


def ids(sessions: list[SessionView]) -> list[str]:
    return [session.session_id for session in sessions]


def fold(partition: Partition, written: WrittenRecord) -> None:
    partition.fold(Record(0, written.offset, written.timestamp_ms, written.key, written.value, written.mark))


def assert_same_as_scan(indexed: LiveView, scanned: LiveView, now_ms: int) -> None:
    for prefix in (*PREFIXES, "irc:#ubuntu:bob", "tele"):
        for owner in OWNERS:
            wanted = scanned.list(now_ms, prefix=prefix, owner=owner)
            assert ids(indexed.list(now_ms, prefix=prefix, owner=owner).sessions) == ids(wanted.sessions)
    for prefix in PREFIXES[:-1]:
        tenant = indexed.partitions[0].prefix_index
        found = None if tenant is None else tenant.find(prefix)
        assert found is not None
        live = {each.session_id for each in scanned.partitions[0].by_id.values() if each.key.startswith(prefix)}
        assert set(found.by_id) == live, "what has ended is dropped"
        assert {each for owned in found.by_owner.values() for each in owned} <= live
        assert all(found.by_owner.values()), "so are owners without sessions"


@given(seed=st.integers(0, 2**48), length=st.integers(1, 80))
@settings(max_examples=150, deadline=None)
def test_the_index_says_what_a_scan_says(seed: int, length: int) -> None:
    draw = random.Random(seed)
    written = history(seed, length)
    begin = draw.randrange(len(written) + 1)
    partition, plain = Partition(0), Partition(0)
    indexed, scanned = view_of(partition), view_of(plain)
    for number, each in enumerate(written):
        if number == begin:
            indexed.register(PREFIXES)
        fold(partition, each)
        fold(plain, each)
        if number >= begin:
            assert_same_as_scan(indexed, scanned, each.timestamp_ms)
    indexed.register(PREFIXES)
    assert_same_as_scan(indexed, scanned, written[-1].timestamp_ms)
    assert (partition.digest, partition.checkpoint) == (plain.digest, plain.checkpoint), "it has no say in the fold"


@given(seed=st.integers(0, 2**48))
@settings(max_examples=60, deadline=None)
def test_a_partition_that_is_restored_or_taken_up_later_is_indexed_too(seed: int) -> None:
    written = history(seed)
    plain = Partition(0)
    for each in written:
        fold(plain, each)
    sessions = list(plain.by_id.values())
    restored, emptied = Partition(0), Partition(0)
    restored.restore(sessions, plain.checkpoint, plain.digest)
    restored.log_time_ms = emptied.log_time_ms = plain.log_time_ms  # as a snapshot has it
    indexed = view_of(emptied)
    indexed.register(PREFIXES)
    indexed.partitions[0] = restored  # as an engine does that has become its owner
    assert_same_as_scan(indexed, view_of(plain), written[-1].timestamp_ms)
    emptied.restore(sessions, plain.checkpoint, plain.digest)
    indexed.partitions[0] = emptied
    assert_same_as_scan(indexed, view_of(plain), written[-1].timestamp_ms)


def full(count: int, prefix: str = "b:") -> Partition:
    partition = Partition(0)
    source = next(each for each in (written for seed in range(99) for written in history(seed)) if is_creation(each))
    assert source.value is not None
    assert source.key is not None
    for number in range(count):
        key = f"{prefix}{number}"
        value = source.value.replace(source.key.encode(), key.encode())
        value = value.replace(b"session-00000000000001", f"session-{prefix[0]}{number:013d}".encode())
        partition.fold(Record(0, number, source.timestamp_ms, key, value))
    assert len(partition) == count
    return partition


def is_creation(written: WrittenRecord) -> bool:
    """Whether it begins the first session of a history, under a key that is plain ASCII, and neither late nor early."""
    if not isinstance(written.event, dict) or written.key != KEYS[0] or written.value is None:
        return False
    partition = Partition(0)
    fold(partition, written)
    return b"session-00000000000001" in written.value and len(partition) == 1


@pytest.mark.parametrize("others", [0, 9_000])
def test_what_a_listing_goes_through_does_not_depend_on_others(others: int) -> None:
    view = view_of(full(others))
    view.register(["a:"])
    for owner in (None, "u1"):
        for prefix in ("a:", "a:deeper"):
            assert list(view.walk.sessions(owner, prefix)) == []


class Counted:
    """A lock that says how often it was taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.times = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self.times += 1

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_the_index_is_built_in_steps_and_once() -> None:
    lock = Counted()
    view = view_of(full(9_000), lock)
    view.register(["b:"])
    assert lock.times >= 5, "others had their turn in between"
    before = lock.times
    view.register(["b:", ""])
    assert lock.times == before
    assert len(list(view.walk.sessions(None, "b:"))) == 9_000


def test_what_ends_or_begins_while_the_index_is_built_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = full(9_000)
    view = view_of(partition)
    victim = list(partition.by_id.values())[-1]
    add, is_done = PrefixIndex.add, [False]

    def then(tenants: PrefixIndex, session: Session) -> None:
        if not is_done[0]:
            is_done[0] = True
            partition._end(victim, "deleted", 0, 10_000)
            partition.fold(Record(0, 10_001, 0, None, None))
        add(tenants, session)

    monkeypatch.setattr(PrefixIndex, "add", then)
    view.register(["b:"])
    found = {session.session_id for _, session in view.walk.sessions(None, "b:")}
    assert found == set(partition.by_id)
    assert victim.session_id not in found


def test_no_index_is_kept_without_a_registered_prefix() -> None:
    partition = full(3)
    view = view_of(partition)
    view.list(0, prefix="b:")
    view.register([""])
    assert partition.prefix_index is None

"""Which sessions a pass evicts is what a scan of all says, after any history; and a pass scans no others."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.engine.clock import iso_from_ms
from lastseen.engine.log.port import Message, Record
from lastseen.engine.session import Session
from lastseen.projections import lazy_heap, live_view, pruner, set_aside
from lastseen.projections.lazy_heap import LazyHeap
from lastseen.projections.live_view import LiveView
from lastseen.projections.partition import Partition
from lastseen.projections.pruner import Due, Pruner
from tests.properties.test_tenant_index import NoAttributes

EPOCH_MS = 1_700_000_000_000
LONG_MS = 10**9
STEPS = [
    *["created"] * 3, *["touched"] * 3, *["held"] * 4, "released", "suspended", "resumed", "closed", "time", "time",
]  # fmt: skip


class Crowd:
    """Partitions, what writes to them, and a pruner that may keep `most` sessions."""

    def __init__(self, partitions: int, most: int) -> None:
        self.partitions = [Partition(number) for number in range(partitions)]
        self.view = LiveView(self.partitions, NoAttributes(), nullcontext())
        self.view.has_one_clock = False
        self.most = most
        self.now_ms = EPOCH_MS
        self.records = 0
        self.owned = set(range(partitions))
        self.pruner = Pruner(self.view, self.append, source="/pruner", max_sessions=most, owned=lambda: self.owned)

    def append(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._fold(self.partitions[message.partition], message.key, message.value)

    def _fold(self, partition: Partition, key: str | None, value: bytes | None) -> None:
        self.records += 1
        partition.fold(Record(partition.number, partition.checkpoint, self.now_ms, key, value))

    def say(self, name: str, key: int, **data: Any) -> None:
        """One event about a key; it is void where it does not apply."""
        partition = self.partitions[key % len(self.partitions)]
        live = partition.find(str(key))
        if name == "created":
            data |= {"session_id": f"session-{self.records:014d}", "policy": {"max_hold_ms": None}, "attributes": {}}
        elif live is None:
            return
        else:
            data["session_id"] = live.session_id
        event = {
            "specversion": "1.0", "id": f"event-{self.records}", "source": "/service", "subject": str(key),
            "type": f"lastseen.session.{name}.v1", "time": iso_from_ms(self.now_ms),
            "datacontenttype": "application/json", "data": data,
        }  # fmt: skip
        self._fold(partition, str(key), json.dumps(event, separators=(",", ":")).encode())

    def in_lru_order(self) -> list[tuple[Partition, Session]]:
        """What a scan of all sessions finds."""
        active = [(part, each) for part in self.partitions for each in part.by_id.values() if not each.suspended_at_ms]
        return sorted(active, key=lambda pair: (pair[1].last_active_at_ms, pair[0].number, pair[1].last_active_offset))

    def naive_plan(self, now_ms: int) -> tuple[list[str], list[str]]:
        """Whom a scan of all sessions evicts, and whom it spares."""
        count, evicted, spared = sum(map(len, self.partitions)) - self.most, [], []
        for partition, session in self.in_lru_order():
            if count <= 0:
                break
            is_ours = partition.number in self.owned
            if session.held_at(max(now_ms, partition.log_time_ms)):
                spared += [session.key] * is_ours
            else:
                evicted += [session.key] * is_ours
                count -= 1
        return evicted, spared

    def step(self, draw: random.Random) -> None:
        """Something that happens to one of a few keys, or time that passes."""
        key = draw.randrange(12)
        match draw.choice(STEPS):
            case "held":
                self.say("held", key, holder=draw.choice("ab"), lease_ms=draw.choice([1, 50, 400, LONG_MS]))
            case "released":
                self.say("released", key, holder=draw.choice("ab"))
            case "touched":
                plainly = draw.random() < 0.5
                self.say("touched", key, **({} if plainly else {"attributes": {"n": draw.randrange(9)}}))
            case "closed":
                self.say("closed", key, reason="logout")
            case "time":
                self.now_ms += draw.choice([0, 1, 30, 60, 500])
            case name:
                self.say(name, key)


def keys(dues: list[Due]) -> list[str]:
    return [due.key for due in dues]


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, batches and bounds so small that a dozen sessions take many."""
    for module, name, value in (
        (pruner, "PAUSE_S", 0), (pruner, "PASSED_AT_A_TIME", 2), (pruner, "OPENED_AT_A_TIME", 1),
        (pruner, "BATCH", 3), (lazy_heap, "FEW", 2), (lazy_heap, "SWEPT_AT_A_TIME", 1),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@given(
    seed=st.integers(0, 2**48), partitions=st.integers(1, 3), most=st.integers(0, 9), owned=st.sampled_from(["all", 0])
)
@settings(max_examples=200, deadline=None)
@pytest.mark.usefixtures("small_steps")
def test_a_pass_evicts_what_a_scan_of_all_sessions_says(seed: int, partitions: int, most: int, owned: Any) -> None:
    draw = random.Random(seed)
    crowd = Crowd(partitions, most)
    if owned != "all":
        crowd.owned = {owned}
    for _ in range(draw.randrange(100)):
        crowd.step(draw)
        assert [each.key for _, each in crowd.view.in_lru_order()] == [each.key for _, each in crowd.in_lru_order()]
        if draw.random() < 0.3:
            now_ms = crowd.now_ms + draw.choice([0, 0, 0, 70, -70])
            evicted, spared = crowd.naive_plan(now_ms)
            plan = crowd.pruner.dry_run(now_ms)
            assert (keys(plan.due), keys(plan.spared)) == (evicted, spared)
            if draw.random() < 0.5:
                is_behind, crowd.now_ms = now_ms < crowd.now_ms, max(now_ms, crowd.now_ms)
                done = keys(crowd.pruner.run(now_ms).due)
                if is_behind:
                    # The first batch brings the log's own time, by which more leases have lapsed.
                    done = done[: len(evicted)]
                # Beyond a batch, a pass waits until other owners have ended what is theirs.
                assert done == evicted if owned == "all" else done == evicted[: len(done)]
    for partition in crowd.partitions:
        kept = [*partition.active, *partition.set_aside.sessions, *partition.suspended]
        assert sorted(kept) == sorted(session.key for session in partition.by_id.values())
        assert len(partition.set_aside._held) + len(partition.set_aside._free) < 4 * 12 + 8, "stale filings pile up"


def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the sessions that a pass looks at."""
    counts: Counter[str] = Counter()
    held_at = Session.held_at

    def counted(session: Session, at_ms: int) -> bool:
        counts["looks"] += 1
        return held_at(session, at_ms)

    monkeypatch.setattr(Session, "held_at", counted)
    return counts


@pytest.mark.parametrize("guard", ["held", "suspended"])
def test_a_pass_costs_what_it_evicts_however_many_are_held(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd, held = Crowd(2, 3_000), 3_000
    for key in range(held):
        crowd.say("created", key)
        if guard == "held":
            crowd.say("held", key, holder="job", lease_ms=LONG_MS)
        else:
            crowd.say("suspended", key)
    counts = looks(monkeypatch)
    for round_number in range(20):
        counts.clear()
        crowd.now_ms += 1_000
        for key in range(held, held + 10):
            crowd.say("created", key + 10 * round_number)
        assert len(crowd.pruner.run(crowd.now_ms).due) == 10
        if round_number:
            assert counts["looks"] <= 10 * 4 + 2 * pruner.FEW_SPARED
    assert sum(map(len, crowd.partitions)) == held
    assert crowd.pruner.spared["held"] == (held if guard == "held" else 0)


def test_the_lock_is_held_for_a_step_when_thousands_are_held_or_lapse(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd, held = Crowd(1, 0), 2_000
    for key in range(held):
        crowd.say("created", key)
        crowd.say("held", key, holder="job", lease_ms=60_000)
    crowd.say("created", held)
    counts = looks(monkeypatch)
    filed: list[int] = []
    file_as_free = set_aside.SetAside._file_as_free
    monkeypatch.setattr(set_aside.SetAside, "_file_as_free", lambda *each: filed.append(1) or file_as_free(*each))
    holds: list[int] = []

    moved: list[int] = []
    aside = crowd.partitions[0].set_aside

    class Watched(nullcontext[None]):
        def __enter__(self) -> None:
            self.before, self.aside = counts["looks"] + len(filed), len(aside)

        def __exit__(self, *_: object) -> None:
            holds.append(counts["looks"] + len(filed) - self.before)
            moved.append(len(aside) - self.aside)

    crowd.view.lock = Watched()
    assert keys(crowd.pruner.run(crowd.now_ms).due) == [str(held)]
    assert len(aside) == held
    assert max(moved) == pruner.PASSED_AT_A_TIME
    crowd.now_ms += 60_000
    due = crowd.pruner.run(crowd.now_ms).due
    assert keys(due) == [str(key) for key in range(held)], "what has lapsed is evicted, least recently used first"
    assert max(holds) <= 2 * pruner.BATCH + pruner.PASSED_AT_A_TIME


@pytest.mark.parametrize("are_held", [False, True])
def test_what_was_not_used_for_long_is_found_a_step_at_a_time(are_held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd, many = Crowd(2, 0), 1_000
    for key in range(many):
        crowd.say("created", key)
        if are_held:
            crowd.say("held", key, holder="job", lease_ms=60_000)
    crowd.pruner.plan(crowd.now_ms)
    assert sum(len(each.set_aside) for each in crowd.partitions) == (many if are_held else 0)
    monkeypatch.setattr(live_view, "SHOWN_AT_A_TIME", 50)
    looked_at, holds = [0], []
    is_live = Partition.is_live

    def counted(partition: Partition, session: Session) -> bool:
        looked_at[0] += 1
        return is_live(partition, session)

    class Watched(nullcontext[None]):
        def __enter__(self) -> None:
            self.before = looked_at[0]

        def __exit__(self, *_: object) -> None:
            holds.append(looked_at[0] - self.before)

    monkeypatch.setattr(Partition, "is_live", counted)
    monkeypatch.setattr(Partition, "in_lru_order", no_order_of_all) if are_held else None
    crowd.view.lock = Watched()
    assert [each.key for each in crowd.view.unused_since(crowd.now_ms + 1)] == [
        each.key for _, each in crowd.in_lru_order()
    ]
    assert max(holds) == 50


def no_order_of_all(_: Partition) -> Any:
    """The order of all sessions that are set aside would have to be made for it."""
    raise AssertionError("the lock is held while all are put into order")


@given(st.lists(st.tuples(st.sampled_from(["push", "spoil", "pop"]), st.integers(0, 20)), max_size=200))
@pytest.mark.usefixtures("small_steps")
def test_a_lazy_heap_gives_its_entries_in_order_and_keeps_few_stale_ones(steps: list[tuple[str, int]]) -> None:
    current: set[tuple[int, int]] = set()
    heap: LazyHeap[tuple[int, int]] = LazyHeap(current.__contains__)
    for number, (what, value) in enumerate(steps):
        if what == "push":
            current.add((value, number))
            heap.push((value, number))
            assert len(heap) <= 4 * len(current) + 12 or len(heap._old), "it sweeps"
        elif what == "spoil" and current:
            current.discard(sorted(current)[value % len(current)])
        elif what == "pop" and current:
            while (entry := heap.pop()) not in current:
                pass
            assert entry == min(current)
            current.discard(entry)
    left = []
    while (first := heap.first()) is not None:
        left.append(heap.pop())
        assert left[-1] == first
    assert left == sorted(left)
    assert current <= set(left)

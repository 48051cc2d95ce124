"""Plain touches that this process wrote take a shorter way through the fold: with the same result, down to the bytes.

Two engines fold the same records in the same batches. One knows the plain touches among them as its own, the other
reads them as any stranger's. Everything that follows from records must be the same: state, digest, history, snapshot,
statistics, facts, and the answers to callers that wait.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen import policy
from lastseen.embedded.engine import Engine
from lastseen.embedded.settings import Settings
from lastseen.engine import codec, own_events, plain_touch, touches
from lastseen.engine.clock import ManualClock, iso_from_ms
from lastseen.engine.errors import LastseenError
from lastseen.engine.genesis import genesis_records
from lastseen.engine.log.memory import MemoryLog
from lastseen.engine.log.port import Mark, Record
from lastseen.engine.plain_touch import OwnTouch
from lastseen.engine.touches import WrittenTouch
from lastseen.engine.verdicts import Verdict
from lastseen.projections.outbox import MAX_OFFSET, Outbox
from lastseen.projections.partition import Partition
from tests.properties.histories import EPOCH_MS, KEYS, WrittenRecord, history

GENESIS = genesis_records("of both", 1, EPOCH_MS)
AT = iso_from_ms(EPOCH_MS)
LIVE_MS = EPOCH_MS + 86_400_000


class Folding:
    """An engine without threads, on a log that a test writes record by record."""

    def __init__(self, *, is_heard: bool) -> None:
        """`is_heard`: there are a subscriber and an outbox, as in an engine on a shared log."""
        self.log = MemoryLog(ManualClock(EPOCH_MS))
        self.log.identity = "of both"
        self.log._keep(GENESIS)
        settings = Settings.of(background=False, snapshot=":memory:", archive_interval=None)
        self.engine = Engine(self.log, ManualClock(LIVE_MS), settings)
        # The histories have beginnings of their own, imports among them.
        self.log._records[0].clear()
        self.engine._views.partitions[0] = Partition(0)
        self.engine._follower.reset(0)
        self.outbox = Outbox(1, "/log")
        self.subscription = self.engine.subscribe() if is_heard else None
        if is_heard:
            self.engine._follower._listeners += (self.outbox,)

    def fold(self, records: list[Record], own: list[tuple[bytes, OwnTouch]], awaited: list[str]) -> dict[str, Any]:
        """Fold one batch; everything that shows its result."""
        follower = self.engine._follower
        # An answer shows what later records of the same hold have made of the session: both ways hold as long.
        follower._monotonic_s = lambda: 0.0
        codec._remembered.clear()
        for value, touch in own:
            codec.remember_touch(value, touch)
        self.log._records[0] += records
        answers = [follower.expect(event_id, 0) for event_id in awaited]
        assert self.engine.refresh() == len(records)
        partition, counts = self.engine._views.partitions[0], self.engine._state.statistics
        seen = {
            "answers": [(each.verdict, each.session and each.session.as_dict()) for each in answers],
            "skew": follower.last_skew,
            "digest": partition.digest,
            "reached": (partition.checkpoint, partition.log_time_ms, partition.importing, follower.folded(0)),
            "lru": [session.__copy__() for session in partition.in_lru_order()],  # type: ignore[attr-defined]
            "suspended": {key: repr(session) for key, session in partition.suspended.items()},
            "endings": partition.endings.newest(1_000),
            "counts": repr(counts.counts),
            "sources": counts.sources.report(),
            "unsaved": (self.engine._state.snapshot.unsaved(), self.engine._state.history.unsaved()),
            "outbox": self.outbox.entries(0, self.outbox.between(0, 0, MAX_OFFSET, 10_000)),
            "facts": [],
        }
        while self.subscription is not None and not self.subscription._queue.empty():
            seen["facts"].append(self.subscription.get())
        for event_id in awaited:
            follower.forget(event_id)
        return seen

    def files(self) -> tuple[list[str], list[str]]:
        """The snapshot and the history, as they stand on the disk after a flush."""
        self.engine.flush()
        state = self.engine._state
        return list(state.snapshot._file._connection.iterdump()), list(state.history._connection.iterdump())


def touch_in(value: bytes | None) -> OwnTouch | None:
    """The plain touch that bytes hold, as the process would remember it that wrote them."""
    found = plain_touch.read(value or b"")
    if found is None:
        return None
    event, sent_at_ms = found
    return OwnTouch(event.subject, event.data.session_id, event.id, event.source, event.time, sent_at_ms)


def batches(written: list[WrittenRecord], draw: random.Random) -> Iterator[list[Record]]:
    """The records, some at a time; some twice, as strangers copy them, and after some of the touches more of them.

    Some touches stand in a stranger's transaction, or under another record key.
    """
    batch: list[Record] = []
    offset = 0
    for each in written:
        values = [each.value] * (1 if draw.random() < 0.9 else 2)
        touch = touch_in(each.value)
        for number in range(draw.choice([0, 1, 5]) if touch else 0):
            assert touch is not None
            source = draw.choice(["/one", "/one", "/one", "/other"])
            event_id = f"{touch.event_id}-{number}"
            values.append(plain_touch.written(event_id, source, touch.key, touch.time, touch.session_id))
        for value in values:
            is_stolen = touch is not None and draw.random() < 0.1
            key, mark = draw.choice([(each.key, Mark.TRANSACTIONAL), (draw.choice(KEYS), None)])
            key, mark = (key, mark) if is_stolen else (each.key, each.mark)
            batch.append(Record(0, offset, each.timestamp_ms, key, value, mark))
            offset += 1
        if draw.random() < 0.15:
            yield batch
            batch = []
    yield batch


def compare(seed: int, length: int, went: Counter[str]) -> None:
    draw = random.Random(seed)
    is_heard = draw.random() < 0.5
    short, long = Folding(is_heard=is_heard), Folding(is_heard=is_heard)
    for batch in batches(history(seed, length), draw):
        own, awaited = [], []
        for record in batch:
            touch = touch_in(record.value)
            if touch is not None and record.value is not None and draw.random() < 0.8:
                own.append((record.value, touch))
                awaited += [touch.event_id] if draw.random() < 0.8 else []
        before = went["short"]
        seen = short.fold(batch, own, awaited)
        went["mixed"] += 0 < went["short"] - before < len(batch)
        assert seen == long.fold(batch, [], awaited)
    assert short.files() == long.files()
    short.engine.shutdown()
    long.engine.shutdown()


@pytest.fixture
def went(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How many records took the shorter way, and how many were tried and did not."""
    counted, fold = Counter[str](), Partition.fold_touches

    def fold_touches(partition: Partition, *rest: Any) -> Any:
        run = fold(partition, *rest)
        counted["short"] += 0 if run is None else len(run.sessions)
        counted["refused"] += run is None
        counted["runs of several"] += run is not None and len(run.sessions) > 1
        return run

    monkeypatch.setattr(Partition, "fold_touches", fold_touches)
    yield counted
    codec._remembered.clear()


@given(st.integers(0, 2**48), st.integers(1, 60))
@settings(max_examples=30)
def test_own_touches_do_what_the_same_bytes_of_a_stranger_do(seed: int, length: int) -> None:
    compare(seed, length, Counter())


def test_both_ways_are_taken_often(went: Counter[str]) -> None:
    for seed in range(30):
        compare(seed, 60, went)
    assert went["short"] > 100, went
    assert went["refused"] > 50, went
    assert went["runs of several"] > 10, went
    assert went["mixed"] > 25, went


def test_a_touch_under_another_record_key_is_malformed() -> None:
    partition, session_id = Partition(0), "session-00000000000001"
    data = {"session_id": session_id, "policy": {}}
    began = codec.envelope("lastseen.session.created.v1", "1", "/a", "k", AT, data)
    assert partition.fold(Record(0, 0, EPOCH_MS, "k", began)).verdict is Verdict.APPLIED
    value = own_events.touch("2", "/a", "other", AT, EPOCH_MS, session_id)
    stolen = Record(0, 1, EPOCH_MS, "k", value)
    assert partition.fold_touches([stolen], 0, None) is None
    assert partition.fold(stolen).verdict is Verdict.MALFORMED


# ── deciding ──


def fates(engine: Engine, wanted: list[tuple[str, str | None]]) -> list[Any]:
    """What is decided of touches, without the ids that are drawn for them."""
    with engine._views.lock:
        decisions = engine._touches.decide(wanted)
    found: list[Any] = []
    for decision in decisions:
        if isinstance(decision, WrittenTouch):
            partition, key, value = decision.message
            touch = touch_in(value)
            assert touch is not None
            assert (touch.key, touch.event_id) == (key, decision.event_id)
            found.append((partition, key, touch.session_id, touch.sent_at_ms, id(decision.session), decision.version))
        else:
            found.append(str(decision) if isinstance(decision, LastseenError) else decision.as_dict())
    return found


def test_one_look_at_a_session_decides_what_the_full_checks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, clock = random.Random(7), ManualClock(EPOCH_MS)
    log = MemoryLog(clock, 3, genesis=True)
    wanted: list[tuple[str, str | None]] = [
        ("never seen", None),
        ("never seen", "x" * 22),
        ("", None),
        ("\ud800", None),
    ]
    went: Counter[str] = Counter()
    with Engine(log, clock, Settings.of(background=False, snapshot=":memory:", archive_interval=None)) as engine:
        for number in range(60):
            key = f"k{number}"
            limits = {name: draw.choice([None, "10s", "1m"]) for name in ("idle_ttl", "max_age", "suspend_ttl")}
            opened = engine.open(key, policy=policy(**limits, touch_precision=draw.choice([None, "5s"])))
            wanted += [(key, None), (key, opened.session_id), (key, "x" * 22)]
            match number % 5:
                case 0:
                    engine.suspend(key)
                case 1:
                    engine.take_lease(key, "job", 30_000)
                case 2:
                    engine.rotate(key)
                case 3 if number % 2:
                    engine.close(key)
        for step_ms in (0, 1, 4_998, 1, 5_000, 4_999, 1, 20_000, 30_000, 600_000):
            clock.advance(step_ms)
            decided = fates(engine, wanted)
            with monkeypatch.context() as patched:
                patched.setattr(touches, "is_far_from_due", lambda *_: False)
                assert decided == fates(engine, wanted)
            went += Counter(type(each).__name__ for each in decided)
    assert min(went[kind] for kind in ("tuple", "str", "dict")) > 50, went

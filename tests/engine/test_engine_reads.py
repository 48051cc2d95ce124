"""What an engine says: listings and their cursors, the past, facts as they happen, bodies within a bound."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import HOUR, KEY, MIN, T0, S, Stage, do_something, state_of

from lastseen import Engine, ManualClock, Position, Settings, Status, errors, policy
from lastseen.engine import events
from lastseen.engine.clock import iso_from_ms
from lastseen.engine.codec import encode
from lastseen.engine.log.port import Message
from tests.patience import PATIENCE_S

# ── listings ──


@pytest.fixture
def crowd(stage: Stage) -> Engine:
    """Nine sessions: made in the order of their numbers, used in the order 3 … 8, 0, 1, 2; 4 and 7 are suspended."""
    engine = stage.open()
    for number in range(9):
        stage.clock.advance(S)
        owner = ["ana", "bob", "cem"][number % 3]
        limits = policy(idle_ttl=f"{60 - number}m", suspend_ttl="5m")
        engine.open(f"{'even' if number % 2 == 0 else 'odd'}-{number}", attributes={"owner": owner}, policy=limits)
    for number in range(3):
        engine.touch(f"{'even' if number % 2 == 0 else 'odd'}-{number}")
    engine.suspend("even-4")
    engine.suspend("odd-7")
    return engine


def numbers(page: Any) -> list[int]:
    """The numbers of the sessions on a page."""
    return [int(session.key[-1]) for session in page.sessions]


def test_lists_are_sorted(crowd: Engine) -> None:
    assert numbers(crowd.list()) == [3, 4, 5, 6, 7, 8, 0, 1, 2]
    assert numbers(crowd.list(sort="created")) == list(range(9))
    assert numbers(crowd.list(sort="deadline")) == [4, 7, 8, 6, 5, 3, 2, 1, 0]


def test_lists_are_filtered(crowd: Engine) -> None:
    assert numbers(crowd.list(prefix="even-")) == [4, 6, 8, 0, 2]
    assert numbers(crowd.list(status="suspended")) == numbers(crowd.list(status=Status.SUSPENDED)) == [4, 7]
    assert numbers(crowd.list(status="active", owner="bob")) == [1]
    assert numbers(crowd.list(owner="bob")) == [4, 7, 1]
    assert numbers(crowd.list(owner="stranger")) == []
    assert numbers(crowd.list(owner="ana", prefix="odd", sort="created")) == [3]


@pytest.mark.parametrize("sort", ["lru", "deadline", "created"])
@pytest.mark.parametrize("limit", [1, 2, 4, 8, 9, 10])
def test_pages_put_together_are_the_list(crowd: Engine, sort: Any, limit: int) -> None:
    whole, cursor, pages = numbers(crowd.list(sort=sort)), None, []
    while True:
        page = crowd.list(sort=sort, limit=limit, cursor=cursor)
        pages.append(numbers(page))
        cursor = page.cursor
        if cursor is None:
            break
    assert [number for page in pages for number in page] == whole
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert 1 <= len(pages[-1]) <= limit


def test_what_is_due_is_in_no_list(crowd: Engine, clock: ManualClock) -> None:
    clock.advance(5 * MIN)
    assert numbers(crowd.list()) == [3, 5, 6, 8, 0, 1, 2]
    assert crowd.count() == 9  # until the pruner, or the next record of each, ends them
    assert len(crowd.prune().due) == 2
    assert crowd.count() == 7


def test_sessions_used_in_one_millisecond_stand_in_the_order_of_their_use(engine: Engine) -> None:
    for key in "abcde":
        engine.open(key)
    for key in "dab":
        engine.touch(key)
    assert [session.key for session in engine.list().sessions] == ["c", "e", "d", "a", "b"]


def test_the_owner_follows_the_attributes(engine: Engine) -> None:
    engine.open(KEY, attributes={"owner": "ana"})
    for owner, listed in (("bob", "bob"), (7, None), ("", None), (None, None), ("x" * 513, None), ("ana", "ana")):
        session = engine.update(KEY, {"owner": owner})
        assert session.owner == listed
        assert len(engine.list(owner="ana").sessions) == (listed == "ana")
        assert len(engine.list(owner="bob").sessions) == (listed == "bob")


def test_a_view_does_not_change_afterwards(engine: Engine, clock: ManualClock) -> None:
    first = engine.open(KEY, attributes={"n": 1})
    received = first.as_dict()
    clock.advance(S)
    engine.update(KEY, {"n": 2})
    engine.take_lease(KEY, "job", MIN)
    engine.suspend(KEY)
    assert first.as_dict() == received
    engine.close(KEY)
    assert first.as_dict() == received


# ── history ──


def test_as_of_says_what_was_seen_then(stage: Stage) -> None:
    engine, choose = stage.open(), Random(11)
    keys = [f"key-{number}" for number in range(12)]
    seen: dict[int, dict[str, Any]] = {}
    after: dict[int, dict[str, Any]] = {}

    def now_seen() -> dict[str, Any]:
        found = {}
        for key in keys:
            session = engine.get(key)
            found[key] = (session and session.as_dict(), [m.value for m in engine.messages(key)])
        return found

    for _ in range(300):
        do_something(engine, stage.clock, choose)
        (end,) = engine._log.end_offsets()
        seen[stage.clock.now_ms()] = now_seen()
        if end and end - 1 not in after and engine._log.read(0, end - 1, 1)[0].timestamp_ms == stage.clock.now_ms():
            after[end - 1] = now_seen()
    assert len(seen) > 5
    assert len(after) > 40
    stage.clock.advance(24 * HOUR)
    engine.prune()
    for moments in (seen, {Position(0, offset): there for offset, there in after.items()}):
        for at, there in moments.items():
            for key in keys:
                session = engine.as_of(key, at)
                assert (session and session.as_dict(), [m.value for m in engine.messages_as_of(key, at)]) == there[key]


def test_as_of_a_position_looks_with_that_records_time(engine: Engine, clock: ManualClock) -> None:
    first = engine.open(KEY).position
    clock.advance(HOUR)
    second = engine.open("another").position  # KEY's session was due there, though no record of its own says so
    assert engine.as_of(KEY, first) is not None
    assert engine.as_of(KEY, second) is None
    assert engine.as_of("another", first) is None
    assert engine.as_of(KEY, T0 - 1) is None


def test_the_transcript_of_an_ended_session_stays_readable(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY)
    for number in range(3):
        engine.touch(KEY, message=number)
    clock.advance(MIN)
    engine.close(KEY)
    engine.open(KEY)
    assert engine.messages(KEY) == []
    assert [message.value for message in engine.messages_as_of(KEY, T0)] == [0, 1, 2]


def test_poison_in_the_log_does_not_hide_the_past(engine: Engine, clock: ManualClock) -> None:
    engine.open(KEY)
    rubbish = [
        Message(0, KEY, b"\xff{"),
        Message(0, "other", b""),
        Message(0, KEY, b'{"specversion":"1.0","type":"x"}'),
    ]
    rubbish_at, *_ = engine._log.append(rubbish)
    clock.advance(MIN)
    engine.touch(KEY)
    assert [entry.verdict.label for entry in engine.history(KEY)] == ["applied", "malformed", "unknown_type", "applied"]
    assert engine.as_of(KEY, rubbish_at).version == 1  # type: ignore[union-attr]
    assert engine.as_of(KEY, T0 + MIN).version == 2  # type: ignore[union-attr]


# ── facts ──


def test_a_subscriber_hears_every_effect_once_and_in_order(engine: Engine, clock: ManualClock) -> None:
    engine.open("before")
    with engine.subscribe() as facts:
        engine.open(KEY, attributes={"owner": "ana"}, policy=policy(idle_ttl="1m"))
        engine.touch(KEY)
        with pytest.raises(errors.AlreadyDone):
            engine.resume(KEY)
        clock.advance(MIN)
        engine.open(KEY)
        engine.rotate(KEY)
        engine.close("before", reason="logout")
        heard = [facts.get(PATIENCE_S) for _ in range(7)]
    kinds = [(fact.kind, fact.key, fact.reason, fact.id[1:]) for fact in heard if fact is not None]
    assert kinds == [
        ("created", KEY, None, (2, 0)), ("touched", KEY, None, (3, 0)), ("ended", KEY, "idle", (4, 0)),
        ("created", KEY, None, (4, 1)), ("ended", KEY, "rotated", (5, 0)), ("created", KEY, None, (5, 1)),
        ("ended", "before", "logout", (6, 0)),
    ]  # fmt: skip
    assert [fact.at_ms for fact in heard if fact is not None][:3] == [T0, T0, T0 + MIN]
    assert heard[0].state["owner"] == "ana"  # type: ignore[union-attr, index]
    assert heard[2].state is None  # type: ignore[union-attr]
    engine.open("after")
    assert facts.get(0) is None


def test_a_subscription_ends_with_the_engine(stage: Stage) -> None:
    engine = stage.open()
    facts = engine.subscribe()
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(lambda: [fact.kind for fact in facts])
        engine.open(KEY)
        engine.shutdown()
        assert heard.result(PATIENCE_S) == ["created"]


def test_a_subscriber_that_does_not_listen_is_let_go(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastseen.projections.subscriptions.QUEUED_FACTS", 5)
    slow, quick = engine.subscribe(), engine.subscribe()
    for number in range(8):
        engine.open(f"key-{number}")
        assert quick.get(PATIENCE_S).key == f"key-{number}"  # type: ignore[union-attr]
    assert [slow.get(PATIENCE_S).key for _ in range(5)] == [f"key-{n}" for n in range(5)]  # type: ignore[union-attr]
    with pytest.raises(errors.LastseenError, match="fell 5 facts behind"):
        slow.get(PATIENCE_S)
    assert slow.get(0) is None


# ── bodies ──


@given(
    seed=st.integers(0, 2**32), steps=st.integers(5, 60), flush_every=st.integers(1, 20), bound=st.integers(1, 3_000)
)
@settings(max_examples=30)
def test_bodies_are_the_same_however_little_memory_they_have(
    seed: int, steps: int, flush_every: int, bound: int
) -> None:
    with TemporaryDirectory() as folder:
        stage = Stage(Path(folder), "memory")
        roomy, tight = stage.open(), None
        try:
            # `memory://` twice is two logs; these two share one.
            tight = Engine(roomy._log.log, stage.clock, Settings.of(background=False, max_body_bytes=bound))
            stage.opened.append(tight)
            choose = Random(seed)
            for step in range(steps):
                do_something(roomy if step % 2 else tight, stage.clock, choose)
                roomy.refresh()
                tight.refresh()
                if step % flush_every == 0:
                    tight.flush()
            assert state_of(tight) == state_of(roomy)
            assert tight.statistics()["bodies"]["bytes"] <= bound
            assert roomy.statistics()["bodies"]["evictions"] == {}
        finally:
            roomy._log.close()
            stage.end()


def test_hits_misses_and_evictions_are_counted_by_cause(on_disk: Stage) -> None:
    engine = on_disk.open(max_body_bytes=2_000)

    def counts() -> tuple[int, int, dict[str, int]]:
        bodies = engine.statistics()["bodies"]
        return bodies["hits"], bodies["misses"], bodies["evictions"]

    for number in range(3):
        engine.open(f"key-{number}", attributes={"text": "x" * 300})  # about 850 bytes each: two fit
    assert counts() == (0, 0, {"capacity": 1})
    assert engine.messages("key-2") == []
    assert counts() == (1, 0, {"capacity": 1})
    assert engine.get("key-0").attributes == {"text": "x" * 300}  # type: ignore[union-attr]
    assert counts() == (1, 1, {"capacity": 2})
    assert engine.statistics()["bodies"]["bytes"] <= 2_000
    engine._maintenance.memory_relief.pressure.limit_bytes = 1  # everything is too much
    engine._maintenance.save_and_relieve()
    assert counts()[2] == {"capacity": 2, "memory": 1}
    engine._maintenance.save_and_relieve()
    assert counts()[2] == {"capacity": 2, "memory": 2}
    assert engine.statistics()["bodies"]["bytes"] == 0
    assert [engine.get(f"key-{n}").attributes["text"] for n in range(3)] == ["x" * 300] * 3  # type: ignore[union-attr]
    assert engine.count() == 3  # bodies leave memory; sessions do not end for it unless that is asked for


def test_sessions_end_for_memory_only_where_that_is_asked_for(stage: Stage) -> None:
    engine = stage.open(evict_on_pressure=True)
    for number in range(40):
        engine.open(f"key-{number:02}")
    engine.take_lease("key-00", "job", MIN)
    engine.suspend("key-01")
    engine._maintenance.memory_relief.pressure.limit_bytes = 1
    engine._maintenance.save_and_relieve()
    gone = [f"key-{n:02}" for n in range(40) if engine.get(f"key-{n:02}") is None]
    assert gone == ["key-02", "key-03"]  # a twentieth, the least recently used, neither held nor suspended
    assert engine.statistics()["ended"] == {"memory": 2}


def test_the_newest_messages_stay_with_the_session(engine: Engine) -> None:
    engine.open(KEY, policy=policy(max_messages=3))
    for number in range(5):
        engine.touch(KEY, message=number)
    assert [message.value for message in engine.messages(KEY)] == [2, 3, 4]
    engine.touch(KEY, policy=policy(max_messages=2), message=5)
    assert [message.value for message in engine.messages(KEY)] == [4, 5]
    engine.touch(KEY, policy=policy(max_messages=None))
    for number in range(6, 12):
        engine.touch(KEY, message=number)
    assert len(engine.messages(KEY)) == 8
    assert [entry.value for entry in engine.messages(KEY)] == list(range(4, 12))


def test_a_message_that_is_delivered_twice_is_kept_once(engine: Engine) -> None:
    session = engine.open(KEY)
    event = events.Touched(
        id="delivered-twice", source="/gateway", subject=KEY, time=iso_from_ms(T0),
        data=events.TouchedData(session_id=session.session_id, message="hi"),
    )  # fmt: skip
    for _ in range(2):
        engine._log.append([Message(0, KEY, encode(event))])
    engine.refresh()
    assert [message.event_id for message in engine.messages(KEY)] == ["delivered-twice"]
    engine.flush()
    engine._log.append([Message(0, KEY, encode(event))])
    engine.refresh()
    engine.flush()
    assert len(engine.messages(KEY)) == 1


def test_readers_beside_writers_see_whole_bodies(on_disk: Stage) -> None:
    engine = on_disk.open(max_body_bytes=1_500)
    for number in range(8):
        engine.open(f"key-{number}", attributes={"a": 0, "b": 0, "text": "x" * 200})
    over = threading.Event()

    def read(seed: int) -> int:
        choose, reads = Random(seed), 0
        while not over.is_set():
            attributes = engine.get(f"key-{choose.randrange(8)}").attributes  # type: ignore[union-attr]
            assert attributes["a"] == attributes["b"]
            reads += 1
        return reads

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, seed) for seed in range(2)]
        try:
            for step in range(1, 150):
                engine.update(f"key-{step % 8}", {"a": step, "b": step})
                if step % 10 == 0:
                    engine.flush()
        finally:
            over.set()
        assert all(reader.result(PATIENCE_S) > 0 for reader in readers)


def test_the_messages_that_are_kept_do_not_depend_on_where_a_batch_ends(on_disk: Stage) -> None:
    writer, reader = on_disk.open(), on_disk.open(snapshot=":memory:")
    writer.open(KEY, policy=policy(max_messages=10))
    for number in range(4):
        writer.touch(KEY, message=number)
    writer.touch(KEY, policy=policy(max_messages=2))
    reader.refresh()  # all of it at once
    kept = [message.value for message in writer.messages(KEY)]
    assert kept == [0, 1, 2, 3]
    assert [message.value for message in reader.messages(KEY)] == kept

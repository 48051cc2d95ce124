"""The pruner, run by hand: what it announces, what it spares, and whom it keeps waiting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from stage import HOUR, KEY, MIN, T0, S, Stage

from lastseen import Engine, ManualClock, policy
from lastseen.projections import pruner


def test_a_dry_run_says_what_a_run_does_and_changes_nothing(engine: Engine, clock: ManualClock) -> None:
    engine.open("a", policy=policy(idle_ttl="3m"))
    engine.open("b", policy=policy(idle_ttl="1m"))
    engine.open("c", policy=policy(max_age="2m"))
    engine.open("d", policy=policy(suspend_ttl="90s"))
    engine.suspend("d")
    engine.open("e", policy=policy(idle_ttl="1h"))
    clock.advance(3 * MIN)
    before = engine._log.end_offsets(), engine.checkpoints()
    foreseen = engine.prune(dry_run=True)
    assert engine.prune(dry_run=True) == foreseen
    assert (engine._log.end_offsets(), engine.checkpoints()) == before
    assert [(due.key, due.reason, due.deadline_ms - T0) for due in foreseen.due] == [
        ("b", "idle", MIN), ("d", "suspend_ttl", 90 * S), ("c", "max_age", 2 * MIN), ("a", "idle", 3 * MIN),
    ]  # fmt: skip
    assert engine.prune() == foreseen
    assert [engine.session_spans(key)[0].ended_at_ms for key in "bdca"] == [
        T0 + MIN,
        T0 + 90 * S,
        T0 + 2 * MIN,
        T0 + 3 * MIN,
    ]
    assert engine.count() == 1
    assert engine.prune().due == []
    assert engine.statistics()["pruner"] == {"runs": 2, "announced": 4, "spared": {}}


@pytest.mark.parametrize("partitions", [1, 3])
def test_when_too_many_live_the_least_recently_used_end(on_disk: Stage, partitions: int) -> None:
    on_disk.partitions = partitions
    engine = on_disk.open(max_sessions=5)
    for number in range(12):
        on_disk.clock.advance(S)
        engine.open(f"key-{number:02}", policy=policy(idle_ttl="5m" if number == 11 else None))
    engine.touch("key-00")
    engine.take_lease("key-01", "job", HOUR)
    engine.suspend("key-02")
    on_disk.clock.advance(5 * MIN)  # key-11 is due, and so makes room itself
    plan = engine.prune(dry_run=True)
    assert [(due.key, due.reason) for due in plan.due] == [
        ("key-11", "idle"), *((f"key-{number:02}", "capacity") for number in range(3, 9)),
    ]  # fmt: skip
    assert [(spared.key, spared.reason) for spared in plan.spared] == [("key-01", "held")]
    assert engine.prune() == plan
    assert sorted(session.key for session in engine.list().sessions) == [
        "key-00",
        "key-01",
        "key-02",
        "key-09",
        "key-10",
    ]
    assert engine.prune().due == []


def test_more_than_one_batch_is_announced_in_one_run(stage: Stage) -> None:
    engine = stage.open(idle_ttl="1m", max_sessions=10)
    for number in range(5):
        engine.open(f"key-{number}")
    keys = [f"many-{number}" for number in range(2_400)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(engine.open, keys))
    stage.clock.advance(30 * S)
    assert len(engine.prune().due) == 2_395
    assert engine.count() == 10
    stage.clock.advance(30 * S)
    assert len(engine.prune().due) == 10
    assert engine.statistics()["ended"] == {"capacity": 2_395, "idle": 10}


def test_others_have_their_turn_while_many_deadlines_are_looked_at(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = stage.open(partitions=2)
    for number in range(60):
        engine.open(f"key-{number}", policy=policy(idle_ttl="1h"))
    stage.clock.advance(HOUR - MIN)
    engine.touch_many([f"key-{number}" for number in range(60)])
    stage.clock.advance(2 * MIN)
    seen = []

    def pause(_: float) -> None:
        assert engine._views.lock.acquire(timeout=1), "no other thread has a turn"
        engine._views.lock.release()
        seen.append(engine.count())

    monkeypatch.setattr(pruner, "time", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(pruner, "OPENED_AT_A_TIME", 10)
    assert engine.prune().due == []
    assert len(seen) >= 4
    stage.clock.advance(HOUR - 2 * MIN)
    assert len(engine.prune().due) == 60


def test_a_late_pruner_ends_no_session(on_disk: Stage) -> None:
    ours, theirs = on_disk.open(), on_disk.open(snapshot=":memory:")
    ours.open(KEY, policy=policy(idle_ttl="1m"))
    theirs.refresh()
    on_disk.clock.advance(MIN)
    plan = theirs._pruner.plan(on_disk.clock.now_ms())
    fresh = ours.open(KEY)  # settles the old session, and begins another
    theirs._pruner.execute(plan, on_disk.clock.now_ms())
    ours.refresh()
    assert ours.get(KEY).session_id == fresh.session_id  # type: ignore[union-attr]
    assert [entry.verdict.label for entry in ours.history(KEY)] == ["applied", "applied", "stale_session"]
    assert ours.statistics()["ended"] == {"idle": 1}


def test_a_capacity_announcement_spares_what_was_used_since(on_disk: Stage) -> None:
    ours, theirs = on_disk.open(), on_disk.open(snapshot=":memory:", max_sessions=1)
    for key in ("a", "b"):
        ours.open(key)
    theirs.refresh()
    plan = theirs._pruner.plan(T0)
    assert [due.key for due in plan.due] == ["a"]
    ours.touch("a")
    theirs._pruner.execute(plan, T0)
    ours.refresh()
    assert ours.history("a")[-1].verdict.label == "version_conflict"
    assert ours.count() == 2

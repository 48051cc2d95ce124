"""Why a session lives or ended: of any life of a key, at any time, with the limit's value and what pushed it out."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest
from stage import KEY, MIN, T0, S, Stage

from lastseen import Engine, Policy, Position, errors, policy


def evicted(stage: Stage) -> Engine:
    """Under a cap of two: ana is pushed out by cy at T0 + 2 min, and comes back a minute later."""
    engine = stage.open(max_sessions=2, idle_ttl="30m")
    engine.open(KEY, attributes={"owner": "ana"})
    stage.clock.advance(MIN)
    engine.open("bo")
    stage.clock.advance(MIN)
    engine.open("cy")
    engine.prune()
    stage.clock.advance(MIN)
    engine.open(KEY, attributes={"owner": "ana"})
    return engine


def test_the_ended_life_of_someone_who_came_back_is_explained(stage: Stage) -> None:
    engine = evicted(stage)
    assert engine.explain(KEY).status == "active"
    gone = engine.explain(KEY, at=T0 + 2 * MIN)
    assert (gone.status, gone.reason, gone.ended_at_ms) == ("ended", "capacity", T0 + 2 * MIN)
    assert (gone.max_sessions, gone.displaced_by, gone.last_active_at_ms) == (2, "cy", T0)
    assert gone.policy is not None
    assert (gone.policy.idle_ttl_ms, gone.deadline_ms) == (30 * MIN, T0 + 30 * MIN)
    assert gone.sentence == (
        f"{KEY} ended 2023-11-14T22:15:20.000Z because more than 2 sessions were live (max_sessions), and it was the"
        " least recently used (capacity; cy was the last to begin before that, record 0:3; announced by /lastseen,"
        " record 0:4); it was last used 2023-11-14T22:13:20.000Z, began 2023-11-14T22:13:20.000Z and lived 2 min."
    )


def test_a_session_is_explained_as_it_was_then_with_what_became_of_it(stage: Stage) -> None:
    engine = evicted(stage)
    then = engine.explain(KEY, at=T0 + MIN)
    assert (then.status, then.reason, then.deadline_ms, then.at_ms) == ("active", "idle", T0 + 30 * MIN, T0 + MIN)
    assert (then.ended_at_ms, then.displaced_by, then.limit_ms) == (T0 + 2 * MIN, "cy", 30 * MIN)
    assert then.sentence.startswith(f"At 2023-11-14T22:14:20.000Z, {KEY} was active: it began")
    assert "would live until 2023-11-14T22:43:20.000Z (29 min later, the idle limit (30 min))" in then.sentence
    assert " It ended 2023-11-14T22:15:20.000Z because more than 2 sessions" in then.sentence
    assert engine.explain(KEY, at=Position(0, 1)).status == "active"
    assert engine.explain("bo", at=T0 + MIN).sentence.endswith(" It is still live.")


def test_a_session_is_explained_by_its_id(stage: Stage) -> None:
    engine = evicted(stage)
    first, second = engine.session_spans(KEY)
    assert engine.explain(KEY, session_id=first.session_id).reason == "capacity"
    assert engine.explain(KEY, session_id=second.session_id).status == "active"
    assert engine.explain(KEY, session_id=second.session_id, at=T0 + MIN).status == "unknown"
    other = engine.explain("bo", session_id=first.session_id)
    assert (other.status, other.offset) == ("unknown", None)
    assert engine.explain(KEY, session_id=first.session_id, at=T0 + 3 * MIN).reason == "capacity"


def test_before_the_first_session_nothing_had_begun(stage: Stage) -> None:
    engine = evicted(stage)
    before = engine.explain(KEY, at=T0 - 1)
    assert (before.status, before.sentence) == (
        "unknown",
        f"No session had begun under {KEY} by 2023-11-14T22:13:19.999Z.",
    )
    assert engine.explain(KEY, at=Position(0, 0)).status == "unknown"


def test_a_time_that_has_not_come_is_refused(stage: Stage) -> None:
    engine = evicted(stage)
    with pytest.raises(errors.InvalidSetting, match="after the present"):
        engine.explain(KEY, at=T0 + 4 * MIN)
    for wrong in (True, 1.5, "yesterday"):
        with pytest.raises(errors.InvalidSetting):
            engine.explain(KEY, at=wrong)  # type: ignore[arg-type]


def test_a_caller_of_a_prefix_learns_no_other_key(stage: Stage) -> None:
    engine = evicted(stage)
    gone = engine.explain(KEY, at=T0 + 2 * MIN, within=KEY)
    assert (gone.reason, gone.max_sessions, gone.displaced_by) == ("capacity", 2, None)
    assert "cy" not in gone.sentence
    assert engine.explain(KEY, at=T0 + 2 * MIN, within="").displaced_by == "cy"


@pytest.mark.parametrize(
    ("limits", "does", "reason", "says"),
    [
        (policy(idle_ttl="5m"), (), "idle", "it was not used for its idle limit of 5 min (idle; no record has ended"),
        (policy(max_age="6m"), (), "max_age", "it reached its greatest age of 6 min (max_age; no record has ended it"),
        (
            policy(suspend_ttl="7m"), ("suspend",), "suspend_ttl",
            "it stayed suspended for longer than its limit for suspension of 7 min (suspend_ttl; no record has ended",
        ),
    ],
)  # fmt: skip
def test_a_due_session_that_no_record_has_ended_names_its_limit(
    stage: Stage, limits: Policy, does: tuple[str, ...], reason: str, says: str
) -> None:
    engine = stage.open()
    engine.open(KEY, policy=limits)
    for name in does:
        getattr(engine, name)(KEY)
    stage.clock.advance(8 * MIN)
    due = engine.explain(KEY)
    assert (due.status, due.reason, due.last_active_at_ms) == ("ended", reason, T0)
    assert due.ended_at_ms == due.deadline_ms == T0 + (due.limit_ms or 0)
    assert due.offset == 1
    assert says in due.sentence
    (span,) = engine.session_spans(KEY)
    assert (span.reason, span.ended_offset, span.limit_ms) == (reason, None, due.limit_ms)


def test_a_live_sentence_names_the_limits_value(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY, policy=policy(idle_ttl="5m"))
    live = engine.explain(KEY)
    assert "(5 min from now, the idle limit (5 min))" in live.sentence
    assert (live.limit_ms, live.last_active_at_ms, live.began_at_ms) == (5 * MIN, T0, T0)


def test_a_sentence_may_have_local_time(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY)
    said = engine.explain(KEY, tz=timezone(timedelta(hours=2))).sentence
    assert "it began 2023-11-15T00:13:20.000+02:00" in said
    assert "Z" not in said


# ── ended sessions by owner and time ──


def ends(stage: Stage) -> Engine:
    """Five sessions of two owners, each closed a minute after the one before; the first idles out at last."""
    engine = stage.open()
    engine.open("t1:0", attributes={"owner": "ana"}, policy=policy(idle_ttl="4m"))
    for number in range(1, 5):
        engine.open(f"t{number % 2}:{number}", attributes={"owner": ("ana", "bo")[number % 2]})
        stage.clock.advance(MIN)
        engine.close(f"t{number % 2}:{number}", reason="logout")
    stage.clock.advance(S)
    engine.prune()
    return engine


def test_ended_sessions_are_found_by_owner_time_prefix_and_reason(stage: Stage) -> None:
    engine = ends(stage)

    def found(**wanted: object) -> list[str]:
        return [span.key for span in engine.ended_sessions(**wanted).spans]  # type: ignore[arg-type]

    assert found() == ["t1:0", "t0:4", "t1:3", "t0:2", "t1:1"]
    assert found(owner="ana") == ["t1:0", "t0:4", "t0:2"]
    assert found(owner="eve") == []
    assert found(since_ms=T0 + 2 * MIN, until_ms=T0 + 4 * MIN) == ["t1:3", "t0:2"]
    assert found(prefix="t1:") == ["t1:0", "t1:3", "t1:1"]
    assert found(prefix="t1:", owner="ana") == ["t1:0"]
    assert found(reason="idle") == ["t1:0"]
    assert found(owner="bo", until_ms=T0 + 2 * MIN) == ["t1:1"]


def test_ended_sessions_come_in_pages_and_a_wrong_cursor_is_refused(stage: Stage) -> None:
    engine = ends(stage)
    for wanted in ({}, {"owner": "ana"}, {"prefix": "t1:"}):
        whole = engine.ended_sessions(**wanted).spans  # type: ignore[arg-type]
        found, cursor = [], None
        while True:
            page = engine.ended_sessions(**wanted, limit=1, cursor=cursor)  # type: ignore[arg-type]
            found += page.spans
            cursor = page.cursor
            if cursor is None:
                break
        assert found == whole
    cursor = engine.ended_sessions(owner="ana", limit=1).cursor
    for wrong in ("", "1.2", "9" * 90, 7, cursor):
        with pytest.raises(errors.InvalidSetting, match="cursor"):
            engine.ended_sessions(cursor=wrong)  # type: ignore[arg-type]
    for wrong_time in (2**63, "1", 1.5, True):
        with pytest.raises(errors.InvalidSetting):
            engine.ended_sessions(since_ms=wrong_time)  # type: ignore[arg-type]
    for name in ("owner", "prefix", "reason"):
        for nothing in (None, ""):
            with pytest.raises(errors.InvalidSetting, match=name):
                engine.ended_sessions(**{name: nothing})  # type: ignore[arg-type]


def test_an_ended_session_has_its_owner_limits_and_counts(stage: Stage) -> None:
    engine = stage.open()
    engine.open(KEY, attributes={"owner": "ana"}, policy=policy(idle_ttl="5m", max_age="1h"))
    stage.clock.advance(MIN)
    engine.update(KEY, {"owner": "bo"})
    engine.close(KEY, reason="logout")
    (span,) = engine.ended_sessions(owner="bo").spans
    assert (span.owner, span.version, span.last_active_at_ms, span.deadline_ms) == ("bo", 3, T0 + MIN, T0 + 6 * MIN)
    assert span.policy == policy(idle_ttl="5m", max_age="1h")
    assert span.limit_ms is None
    assert engine.ended_sessions(owner="ana").spans == []


def test_a_session_that_ends_while_it_is_explained_is_explained_with_its_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = stage.open()
    first = engine.create(KEY)
    past = engine
    read = past._span_at

    def ends_then(*asked: object) -> object:
        monkeypatch.setattr(past, "_span_at", read)
        span = read(*asked)  # type: ignore[arg-type]
        engine.close(KEY, reason="logout")
        engine.create(KEY)
        return span

    monkeypatch.setattr(past, "_span_at", ends_then)
    found = engine.explain(KEY, session_id=first.session_id)
    assert (found.status, found.reason, found.ended_at_ms) == ("ended", "logout", T0)

"""Bulk commands: one append for up to 1,000 sessions, a result for each, and refusals that stop no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stage import Stage

import lastseen
from lastseen.engine import bulk_commands, errors
from lastseen.engine.errors import OwnerState
from lastseen.engine.log.port import Message
from lastseen.engine.log.shared_log import Owner
from lastseen.engine.partitioner import partition_of
from lastseen.engine.session import SessionView, Status
from tests.patience import eventually

T0_REASON = "moved"


def appends(engine: lastseen.Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each append takes, from now on."""
    sizes: list[int] = []
    append = engine._log.append

    def counted(messages: list[Message]) -> Any:
        sizes.append(len(messages))
        return append(messages)

    monkeypatch.setattr(engine._log, "append", counted)
    return sizes


def test_many_sessions_end_in_one_append_of_each_thousand(
    engine: lastseen.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"k{number}" for number in range(2_500)]
    for key in keys:
        engine.touch(engine.open(key).key, wait="none")
    engine.refresh()
    sizes = appends(engine, monkeypatch)
    assert engine.close_many(keys, reason=T0_REASON) == [None] * 2_500
    assert [size for size in sizes if size] == [1_000, 1_000, 500]
    assert engine.count() == 0
    span = engine.last_session_span("k2499")
    assert span is not None
    assert span.reason == T0_REASON


def test_each_key_has_a_result_of_its_own(engine: lastseen.Engine) -> None:
    ended = engine.open("a").session_id
    live = engine.rotate("a").session_id
    for key in ("b", "c"):
        engine.open(key)
    wanted: list[Any] = [("a", ended), ("a", "x" * 22), ("a", live), "b", "b", "absent", "", 7, ("c", None)]
    results = engine.close_many(wanted)
    assert [type(result) for result in results] == [
        errors.SessionEnded, errors.StaleSession, type(None), type(None), errors.SessionEnded, errors.SessionNotFound,
        errors.InvalidKey, errors.InvalidKey, type(None),
    ]  # fmt: skip
    assert engine.count() == 0
    assert engine.close_many([]) == []


def test_suspended_in_bulk_and_resumed(engine: lastseen.Engine) -> None:
    for key in ("a", "b"):
        engine.open(key)
    engine.suspend("b")
    first, second = engine.suspend_many(["a", "b"], reason="maintenance")
    assert first is None
    assert isinstance(second, errors.AlreadyDone)
    suspended = engine.get("a")
    assert suspended is not None
    assert suspended.status is Status.SUSPENDED
    resumed = engine.resume_many(["a", "b", "a"])
    assert [type(each) for each in resumed] == [type(None), type(None), errors.AlreadyDone]
    verdicts = [entry.verdict.label for entry in engine.history("a")]
    assert verdicts == ["applied", "applied", "applied", "already"], "the two that came together meet in the fold"
    assert len(engine.history("b")) == 3, "what the view refuses is not written"


@pytest.mark.parametrize(
    "command",
    [
        lambda engine, reason: engine.close_many(["a"], reason=reason),
        lambda engine, reason: engine.suspend_many(["a"], reason=reason),
        lambda engine, reason: engine.resume_many(["a"], reason=reason),
    ],
    ids=["close", "suspend", "resume"],
)
@pytest.mark.parametrize("reason", ["", "x" * 10_000, 7])
def test_a_reason_that_no_record_can_carry_is_refused_before_anything_is_written(
    engine: lastseen.Engine, command: Callable[[lastseen.Engine, Any], Any], reason: Any
) -> None:
    engine.open("a")
    before = engine._log.end_offsets()
    with pytest.raises(errors.InvalidEvent, match="reason"):
        command(engine, reason)
    assert engine._log.end_offsets() == before


def test_a_session_that_is_replaced_meanwhile_is_ended_where_only_its_key_was_named(
    engine: lastseen.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = engine.open("pinned").session_id
    engine.open("a")
    append = engine._log.append
    rotations = ["a", "pinned"]

    def rotate_first(messages: list[Message]) -> Any:
        if rotations:
            key = rotations.pop()
            rotations.clear() if key == "a" else None
            monkeypatch.setattr(engine._log, "append", append)
            created = [made(engine, name) for name in ("a", "pinned")]
            return append([*created, *messages])[len(created) :]
        return append(messages)

    monkeypatch.setattr(engine._log, "append", rotate_first)
    by_key, by_id = engine.close_many(["a", ("pinned", pinned)])
    assert by_key is None
    assert isinstance(by_id, errors.StaleSession | errors.SessionEnded)
    assert engine.get("a") is None
    assert engine.get("pinned") is not None, "another session than the one that was named"


def made(engine: lastseen.Engine, key: str) -> Message:
    """A record of another process that replaces the session under a key."""
    session = engine.get(key)
    assert session is not None
    from lastseen.engine import events
    from lastseen.engine.clock import iso_from_ms
    from lastseen.engine.codec import encode
    from lastseen.engine.identifiers import new_event_id, new_session_id

    now_ms = engine.now_ms()
    event = events.Created(
        id=new_event_id(now_ms), source="/other", subject=key, time=iso_from_ms(now_ms),
        data=events.CreatedData(
            session_id=new_session_id(), policy=session.policy, attributes={}, replaces=session.session_id,
            reason="rotated", if_version=None,
        ),
    )  # fmt: skip
    return Message(session.partition, key, encode(event))


def test_a_closed_engine_takes_no_bulk_command(engine: lastseen.Engine) -> None:
    engine.shutdown()
    for command in (engine.close_many, engine.suspend_many, engine.resume_many):
        with pytest.raises(errors.EngineClosed):
            command([])


# ── partitions that are not here, or leave meanwhile ──

PARTITIONS = 3
HERE, THERE, ELSEWHERE = (
    next(f"user:{n}" for n in range(100) if partition_of(f"user:{n}", PARTITIONS) == number) for number in range(3)
)
OWNER = "http://second:1"


@pytest.fixture
def shared(on_disk: Stage) -> lastseen.Engine:
    """An engine with a session in each of three partitions, of which another engine owns the second."""
    on_disk.partitions = PARTITIONS
    engine = on_disk.open()
    for key in (HERE, THERE, ELSEWHERE):
        engine.open(key)
    engine._views.served = frozenset({0, 2})
    engine._views.known_owner = lambda _: Owner(OwnerState.KNOWN, OWNER)
    return engine


def version_of(engine: lastseen.Engine, key: str) -> int:
    session = engine._views.partitions[partition_of(key, PARTITIONS)].find(key)
    assert session is not None
    return session.version


@pytest.mark.parametrize("wait", ["applied", "appended", "none"])
def test_a_touch_of_what_another_engine_owns_fails_alone_and_names_the_owner(
    shared: lastseen.Engine, wait: Any
) -> None:
    first, refused, third = shared.touch_many([HERE, THERE, ELSEWHERE], wait=wait)
    assert isinstance(refused, errors.NotOwner)
    assert (refused.address, refused.owner) == (OWNER, OwnerState.KNOWN)
    assert not isinstance(first, errors.LastseenError)
    assert not isinstance(third, errors.LastseenError)

    def is_touched() -> bool:
        shared.refresh()
        return [version_of(shared, key) for key in (HERE, THERE, ELSEWHERE)] == [2, 1, 2]

    eventually(is_touched, "the log has the other two")


@pytest.mark.parametrize("command", ["close_many", "suspend_many", "resume_many"])
def test_a_bulk_command_does_what_is_here(shared: lastseen.Engine, command: str) -> None:
    if command == "resume_many":
        for key in (HERE, ELSEWHERE):
            shared.suspend(key)
    first, refused, third = getattr(shared, command)([HERE, (THERE, None), ELSEWHERE])
    assert (first, third) == (None, None)
    assert isinstance(refused, errors.NotOwner)
    assert refused.address == OWNER
    assert getattr(shared, command)([THERE])[0].address == OWNER


@pytest.fixture
def moving(shared: lastseen.Engine, monkeypatch: pytest.MonkeyPatch) -> lastseen.Engine:
    """The same; its third partition leaves between append and fold."""
    catch_up = shared._follower.catch_up

    def without_the_third(to: Any = None) -> int:
        if to is not None and to.partition == 2:
            raise shared._views.not_owner(2, "what was appended")
        return catch_up(to)

    monkeypatch.setattr(shared._follower, "catch_up", without_the_third)
    return shared


def test_of_what_moves_meanwhile_the_outcome_is_unknown_and_the_rest_is_done(moving: lastseen.Engine) -> None:
    first, refused, third = moving.touch_many([HERE, THERE, ELSEWHERE])
    assert isinstance(first, SessionView)
    assert first.version == 2
    assert isinstance(refused, errors.NotOwner)
    assert isinstance(third, errors.OutcomeUnknown)
    first, refused, third = moving.close_many([HERE, THERE, ELSEWHERE])
    assert (first, type(refused), type(third)) == (None, errors.NotOwner, errors.OutcomeUnknown)
    with pytest.raises(errors.OutcomeUnknown):
        moving.touch_many([ELSEWHERE])
    assert moving._follower._awaited == {}, "nothing is awaited for ever"


def test_a_caller_learns_its_outcome_though_a_partition_of_another_one_fails(
    moving: lastseen.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two callers are served in one turn, and one of them loses its partition."""
    loop = moving._loop
    append_and_fold = loop.turns._append_and_fold
    monkeypatch.setattr(
        loop.turns, "_append_and_fold",
        lambda messages: append_and_fold([*messages, Message(2, ELSEWHERE, b"of another caller")]),
    )  # fmt: skip
    touched = moving.touch(HERE)
    assert touched is not None
    assert touched.version == 2
    with pytest.raises(errors.OutcomeUnknown):
        moving.touch(ELSEWHERE)


def test_a_failure_after_the_first_thousand_leaves_those_their_results(
    engine: lastseen.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_commands, "AT_ONCE", 2)
    for key in "abcde":
        engine.open(key)
    append, calls = engine._log.append, [0]

    def fails_then(messages: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise errors.LogUnavailable("the disk is full")
        return append(messages)

    monkeypatch.setattr(engine._log, "append", fails_then)
    results = engine.close_many("abcde")
    assert [type(each) for each in results] == [type(None)] * 2 + [errors.LogUnavailable] * 3
    assert calls == [2]
    assert engine.count() == 3
    calls[0] = 1
    with pytest.raises(errors.LogUnavailable):
        engine.close_many("cde")

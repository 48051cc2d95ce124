"""Bulk commands: one append for up to 1,000 sessions, a result for each, and refusals that stop no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lastseen
from lastseen.engine import errors
from lastseen.engine.log.port import Message
from lastseen.engine.session import Status

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

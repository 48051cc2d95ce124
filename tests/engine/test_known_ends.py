"""What a command says of a session that has ended: that it has, when and why, as long as it is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread

import pytest
from stage import KEY, MIN, T0, Stage

from lastseen import AsyncEngine, Engine, ManualClock, policy
from lastseen.engine.errors import SessionEnd, SessionEnded, SessionNotFound
from tests.patience import PATIENCE_S

Command = Callable[[Engine, str], object]
COMMANDS: dict[str, Command] = {
    "touch": lambda engine, key: engine.touch(key),
    "touch, appended": lambda engine, key: engine.touch(key, wait="appended"),
    "touch, not waited for": lambda engine, key: engine.touch(key, wait="none"),
    "touch with a message": lambda engine, key: engine.touch(key, message={"said": "hello"}),
    "update": lambda engine, key: engine.update(key, {"n": 1}),
    "suspend": lambda engine, key: engine.suspend(key),
    "resume": lambda engine, key: engine.resume(key),
    "hold": lambda engine, key: engine.hold(key).__enter__(),
    "lease": lambda engine, key: engine.take_lease(key, "job", MIN),
    "release": lambda engine, key: engine.release(key, "job"),
    "rotate": lambda engine, key: engine.rotate(key),
    "close": lambda engine, key: engine.close(key),
    "many touches": lambda engine, key: _raised(engine.touch_many([key])),
    "many touches, not waited for": lambda engine, key: _raised(engine.touch_many([key], wait="none")),
    "many closes": lambda engine, key: _raised(engine.close_many([key])),
    "many suspensions": lambda engine, key: _raised(engine.suspend_many([key])),
    "many resumptions": lambda engine, key: _raised(engine.resume_many([key])),
}


def _raised(results: list[object]) -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result


def end_said(command: Command, engine: Engine, key: str = KEY) -> SessionEnd:
    with pytest.raises(SessionEnded) as refused:
        command(engine, key)
    end = refused.value.end
    assert end is not None
    assert f"({end.reason})" in str(refused.value)
    return end


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_when_and_why_it_ended(name: str, engine: Engine, clock: ManualClock) -> None:
    session_id = engine.open(KEY).session_id
    clock.advance(MIN)
    engine.close(KEY, reason="logout")
    clock.advance(MIN)
    wanted = SessionEnd(session_id, T0, T0 + MIN, "logout", (0, 2), "/lastseen")
    assert end_said(COMMANDS[name], engine) == wanted._replace(ended_by=engine._source)
    with pytest.raises(SessionNotFound, match="no session lives under it"):
        COMMANDS[name](engine, "never-seen")


def test_the_words_name_the_time_and_the_reason(engine: Engine) -> None:
    engine.open(KEY)
    engine.close(KEY, reason="logout")
    with pytest.raises(SessionEnded, match=r"the session ended 2023-11-14T22:13:20\.000Z \(logout\) and does not come"):
        engine.touch(KEY)


def test_it_is_known_after_a_restart_and_of_a_session_that_was_due(on_disk: Stage) -> None:
    engine = on_disk.open()
    engine.open(KEY, policy=policy(idle_ttl="1m"))
    on_disk.clock.advance(MIN)
    due = end_said(COMMANDS["touch"], engine)
    assert (due.ended_at_ms, due.reason, due.position) == (T0 + MIN, "idle", None)
    engine.prune()
    announced = end_said(COMMANDS["touch"], engine)
    assert announced == due._replace(position=(0, 2), ended_by=engine._source)
    engine.shutdown()
    again = on_disk.open()
    for command in COMMANDS.values():
        assert end_said(command, again) == announced


def test_a_call_that_names_a_session_gets_the_end_of_that_one(on_disk: Stage) -> None:
    engine = on_disk.open()
    first = engine.open(KEY).session_id
    for _ in range(64):
        engine.rotate(KEY)
    latest = engine.rotate(KEY).session_id
    engine.close(KEY, reason="logout")
    assert end_said(lambda engine, key: engine.touch(key, session_id=latest), engine).reason == "logout"
    with pytest.raises(SessionEnded) as refused:
        engine.touch(KEY, session_id=first)
    assert refused.value.end is None  # it is among the latest 64 no longer: bounded work
    engine.flush()
    named = engine.session_spans(KEY)[-2]
    assert end_said(lambda engine, key: engine.close(key, session_id=named.session_id), engine).reason == "rotated"
    with pytest.raises(SessionNotFound):
        engine.touch(KEY, session_id="y" * 22)


def test_a_session_that_another_engine_ended_meanwhile(on_disk: Stage) -> None:
    ours, other = on_disk.open(), on_disk.open()
    ours.open(KEY)
    other.refresh()
    other.close(KEY, reason="revoked")
    for command in (COMMANDS["suspend"], COMMANDS["many closes"]):
        assert end_said(command, ours).reason == "revoked"


def test_no_refusal_waits_for_a_flush(on_disk: Stage) -> None:
    engine = on_disk.open()
    engine.open(KEY)
    engine.close(KEY)
    engine.flush()
    refused: list[Exception] = []

    def touch() -> None:
        for key in (KEY, "never-seen"):
            try:
                engine.touch(key)
            except (SessionEnded, SessionNotFound) as error:
                refused.append(error)

    with engine._state.history.lock:  # as a flush holds it while it writes
        caller = Thread(target=touch)
        caller.start()
        caller.join(PATIENCE_S)
    assert [type(each) for each in refused] == [SessionEnded, SessionNotFound]


def test_a_history_that_cannot_be_read_leaves_the_refusal_as_it_was(
    on_disk: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = on_disk.open()
    engine.open(KEY)
    engine.close(KEY)
    engine.flush()
    monkeypatch.setattr(engine._state.history, "path", str(on_disk.folder))
    with pytest.raises(SessionNotFound):
        engine.touch(KEY)


def test_the_engine_for_coroutines_says_so_too(stage: Stage) -> None:
    engine = stage.open()

    async def story() -> None:
        twin = AsyncEngine(engine, stage.clock)
        await twin.open(KEY)
        await twin.close(KEY, reason="logout")
        for call in (twin.touch(KEY), twin.touch(KEY, wait="none"), twin.suspend(KEY)):
            with pytest.raises(SessionEnded, match="logout") as refused:
                await call
            assert refused.value.end is not None
        await twin.shutdown()

    asyncio.run(story())

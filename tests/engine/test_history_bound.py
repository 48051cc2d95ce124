"""A history in memory has a bound: what it still has is right, and what has left it is said, not guessed at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import HOUR, Stage

from lastseen import Engine, Position, errors

MAX_BYTES = 600_000
KEYS = 40
TOUCHES = 30_000


def used_bytes(engine: Engine) -> int:
    """What the tables of the history take."""
    bound = engine._state.history._bound
    assert bound is not None
    return bound.used_bytes()


def lived(stage: Stage, *, touches: int, max_history_bytes: int = MAX_BYTES) -> Engine:
    """An engine with its history in memory, on whose log so much has happened: `early` ended long ago."""
    engine = stage.open(snapshot="memory", max_history_bytes=max_history_bytes)
    engine.open("early")
    engine.close("early")
    for number in range(KEYS):
        engine.open(f"key-{number}")
    for number in range(touches):
        stage.clock.advance(10)
        engine.touch(f"key-{number % KEYS}", attributes={"n": number}, wait="appended")
        if number % 500 == 0:
            engine.flush()
    engine.open("late")
    engine.close("late")
    engine.flush()
    return engine


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Stage]:
    """A stage whose log waits for no disk: so many touches take a second."""
    made = Stage(tmp_path, "memory")
    yield made
    made.end()


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """After ten times as many records as the bound has room for."""
    made = Stage(tmp_path_factory.mktemp("bounded"), "memory")
    yield lived(made, touches=TOUCHES)
    made.end()


def test_it_does_not_grow_with_the_log(in_memory: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="lastseen"):
        engine = lived(in_memory, touches=TOUCHES)
    assert used_bytes(engine) <= MAX_BYTES
    assert sum("from now on its oldest records leave it" in each.message for each in caplog.records) == 1


def test_without_the_bound_it_would_be_larger(in_memory: Stage) -> None:
    engine = lived(in_memory, touches=TOUCHES, max_history_bytes=1 << 30)
    assert used_bytes(engine) > 5 * MAX_BYTES


def test_what_it_still_has_is_right(bounded: Engine) -> None:
    entries = bounded.history("key-1", limit=10_000)
    assert [entry.offset for entry in entries] == sorted(entry.offset for entry in entries)
    floor = bounded._state.history.floor(0)
    assert 0 < floor < entries[0].offset <= floor + KEYS  # all from the floor on
    assert [span.reason for span in bounded.session_spans("late")] == ["deleted"]
    assert bounded.explain("late").status == "ended"
    assert len(bounded.session_spans("key-1")) == 1  # it lives, and is known however long ago it began
    assert bounded.explain("key-1").status == "active"


def test_what_has_left_is_not_said_to_have_never_been(bounded: Engine) -> None:
    said = bounded.explain("early")
    assert said.status == "unknown"
    assert "goes back no further" in said.sentence
    assert "ever lived" not in said.sentence


def test_the_past_before_it_is_refused(bounded: Engine) -> None:
    clock_ms = bounded._clock.now_ms()
    for question in (
        lambda: bounded.as_of("key-1", Position(0, 5)),
        lambda: bounded.as_of("key-1", clock_ms - 1),  # it began before the floor: its state cannot be folded
        lambda: bounded.messages_as_of("key-1", clock_ms - HOUR),
        lambda: list(bounded.facts_between(0, 1, 10)),
        lambda: list(bounded.facts_between(0, bounded.reached(0).offset - 10, bounded.reached(0).offset)),
    ):
        with pytest.raises(errors.LogMismatch, match="has left"):
            question()


def test_a_session_that_began_after_it_is_known_as_of_any_moment(bounded: Engine) -> None:
    session = bounded.open("new", attributes={"n": 1})
    bounded.touch("new", attributes={"n": 2})
    found = bounded.as_of("new", Position(session.position.partition, session.position.offset))
    assert found is not None
    assert dict(found.attributes) == {"n": 1}


def test_on_the_disk_nothing_leaves(on_disk: Stage, tmp_path: Path) -> None:
    engine = on_disk.open(snapshot=str(tmp_path / "kept.snapshot"), max_history_bytes=1)
    engine.open("early")
    engine.close("early")
    engine.flush()
    assert [entry.name for entry in engine.history("early")] == ["created", "closed"]

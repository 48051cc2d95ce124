"""The gateway's `state.db` beside the transcripts' files: said there, read there, rewritten there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_stage import KEY, NEVER, T0, source

import lastseen
from lastseen.compat.gateway import GatewayConfig, SessionResetPolicy, SessionStore
from lastseen.engine.errors import InvalidEvent


class StateDb:
    """A `SessionDB` of the gateway, in memory."""

    def __init__(self) -> None:
        self.sessions: dict[str, list[str]] = {}
        self.messages: dict[str, list[dict[str, Any]]] = {}
        self.is_down = False

    def __getattribute__(self, name: str) -> Any:
        if "_" in name and not name.startswith(("_", "is_")) and self.is_down:
            raise OSError("database is locked")
        return object.__getattribute__(self, name)

    def create_session(self, session_id: str, source: str, **more: Any) -> None:
        self.sessions.setdefault(session_id, [f"{source} {more['user_id']}"])

    def end_session(self, session_id: str, end_reason: str) -> None:
        self.sessions[session_id].append(end_reason)

    def reopen_session(self, session_id: str) -> None:
        self.sessions[session_id].append("reopened")

    def append_message(self, session_id: str, role: str, **columns: Any) -> None:
        said = {"role": role} | {name: value for name, value in columns.items() if value is not None}
        self.messages.setdefault(session_id, []).append(said)

    def replace_messages(self, session_id: str, messages: list[dict[str, Any]]) -> None:
        self.messages[session_id] = messages

    def get_messages_as_conversation(self, session_id: str) -> list[dict[str, Any]]:
        return self.messages.get(session_id, [])


@pytest.fixture
def db() -> StateDb:
    return StateDb()


@pytest.fixture
def store(tmp_path: Path, db: StateDb) -> Iterator[SessionStore]:
    with lastseen.open_engine("memory://", clock=lastseen.ManualClock(T0), background=False) as engine:
        config = GatewayConfig(default_reset_policy=NEVER)
        clock = lastseen.ManualClock(T0)
        with SessionStore(
            tmp_path, config, engine=engine, clock=clock, session_db=db, sessions_json=False
        ) as store:  # fmt: skip
            yield store


def user(text: str) -> dict[str, Any]:
    """What a user says."""
    return {"role": "user", "content": text}


def test_conversations_begin_end_and_go_on_there(store: SessionStore, db: StateDb) -> None:
    first = store.get_or_create_session(source())
    again = store.get_or_create_session(source())
    assert again.session_id == first.session_id
    second = store.reset_session(KEY)
    assert second is not None
    store.suspend_session(KEY)
    third = store.get_or_create_session(source())
    store.switch_session(KEY, first.session_id)
    fifth = store.get_or_create_session(source(), force_new=True)
    assert db.sessions == {
        first.session_id: ["telegram user-42", "session_reset", "reopened", "session_reset"],
        second.session_id: ["telegram user-42", "session_reset"],
        third.session_id: ["telegram user-42", "session_switch"],
        fifth.session_id: ["telegram user-42"],
    }


def test_messages_are_written_to_both_unless_the_agent_has_written_them(store: SessionStore, db: StateDb) -> None:
    store.append_to_transcript("c", user("one") | {"reasoning": "a user has none"})
    answer = {"role": "assistant", "content": "two", "reasoning": "so", "mirror": True}
    store.append_to_transcript("c", answer)
    store.append_to_transcript("c", user("three"), skip_db=True)
    assert db.messages["c"] == [user("one"), {"role": "assistant", "content": "two", "reasoning": "so"}]
    assert [each["content"] for each in store.load_transcript("c")] == ["one", "two", "three"]
    db.messages["c"] += [user("three"), user("four")]
    assert [each["content"] for each in store.load_transcript("c")] == ["one", "two", "three", "four"]


def test_a_transcript_is_rewritten_in_both(store: SessionStore, db: StateDb) -> None:
    for text in ("one", "two"):
        store.append_to_transcript("c", user(text))
    store.rewrite_transcript("c", (user("one"),))
    assert store.load_transcript("c") == db.messages["c"] == [user("one")]
    with pytest.raises(InvalidEvent):
        store.rewrite_transcript("../c", [user("one")])
    with pytest.raises(InvalidEvent):
        store.append_to_transcript("../c", user("one"))
    assert list(db.messages) == ["c"]


def test_what_was_said_there_alone_is_activity(store: SessionStore, db: StateDb) -> None:
    entry = store.get_or_create_session(source())
    db.messages[entry.session_id] = [user("one")]
    store.suspend_session(KEY)
    assert store.get_or_create_session(source()).reset_had_activity
    store.suspend_session(KEY)
    assert not store.get_or_create_session(source()).reset_had_activity


def test_a_database_that_fails_stops_nothing(
    store: SessionStore, db: StateDb, caplog: pytest.LogCaptureFixture
) -> None:
    db.is_down = True
    store.get_or_create_session(source())
    store.append_to_transcript("c", user("one"))
    store.rewrite_transcript("c", [user("two")])
    assert store.load_transcript("c") == [user("two")]
    assert caplog.text.count("database is locked") == 4
    store._db = None  # as gateways' tests do
    assert store.load_transcript("c") == [user("two")]


def test_without_a_gateway_in_the_process_there_is_no_database(tmp_path: Path) -> None:
    config = GatewayConfig(default_reset_policy=SessionResetPolicy("none"))
    with SessionStore(tmp_path, config) as store:
        assert store._db is None

"""What gateways do with entries inside the store: change, keep, put in, take out, and save or not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from gateway_stage import DAY, HOUR, KEY, MIN, T0, GatewayStage, records, source

from lastseen.compat.gateway import SessionEntry, SessionResetPolicy
from lastseen.engine.errors import InvalidEvent, InvalidKey, LogUnavailable
from lastseen.engine.session import Status


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[GatewayStage]:
    stage = GatewayStage(tmp_path)
    yield stage
    stage.close()


def an_entry(key: str, days: float = 0, **other: object) -> SessionEntry:
    """An entry as a gateway's test makes it, with local times without a zone."""
    used = datetime.fromtimestamp(T0 / 1000) - timedelta(days=days)  # noqa: DTZ006 - as gateways take the time
    given = {"session_id": f"20230101_000000_{key[-1]}", "created_at": used, "updated_at": used, "origin": source()}
    return SessionEntry(key, **{**given, **other})  # type: ignore[arg-type]


def test_a_change_is_saved_though_the_caller_keeps_no_entry(stage: GatewayStage) -> None:
    store = stage.open()
    keys = [store.get_or_create_session(source(chat)).session_key for chat in "123"]
    for key in keys:
        store._entries.get(key).suspended = True  # type: ignore[union-attr]
    store._save()
    assert [entry.suspended for entry in store.list_sessions()] == [True] * 3


def test_a_change_without_a_save_is_there_at_the_next_call_and_after_a_restart(stage: GatewayStage) -> None:
    store = stage.open(quick=False)
    store.get_or_create_session(source())
    store.update_session(KEY, last_prompt_tokens=5_000)
    store.get_or_create_session(source()).last_prompt_tokens = 7
    assert store._entries[KEY].last_prompt_tokens == 7
    store._entries[KEY].last_prompt_tokens = 0
    store.get_or_create_session(source()).display_name = "Ana"
    store.close()
    again = stage.open(quick=False)
    assert (again._entries[KEY].last_prompt_tokens, again._entries[KEY].display_name) == (0, "Ana")


def test_reading_writes_nothing(stage: GatewayStage) -> None:
    store = stage.open()
    entry = store.get_or_create_session(source())
    before = records(store)
    entry.last_prompt_tokens = entry.last_prompt_tokens
    assert store._entries[KEY] == entry
    assert list(store._entries.items()) == [(KEY, entry)]
    store._save()
    assert records(store) == before


def test_a_copy_is_its_holders_own(stage: GatewayStage) -> None:
    store = stage.open()
    entry = store.get_or_create_session(source())
    for other in (copy.copy(entry), copy.deepcopy(entry)):
        other.display_name = "copy"
    store._save()
    assert store._entries[KEY].display_name is None


def test_a_time_that_a_caller_sets_is_when_the_session_was_last_used(stage: GatewayStage) -> None:
    store = stage.open(SessionResetPolicy("idle", idle_minutes=60))
    entry = store.get_or_create_session(source())
    entry.updated_at -= timedelta(hours=2)
    store._save()
    assert store._entries[KEY].updated_at == entry.updated_at
    assert store._is_session_expired(store._entries[KEY])
    assert store._should_reset(entry, source()) == "idle"
    assert store.list_sessions(active_minutes=100) == []
    stage.busy = {KEY}
    assert store._should_reset(entry, source()) is None
    stage.busy = set()
    fresh = store.get_or_create_session(source())
    assert fresh.auto_reset_reason == "idle"
    assert store._should_reset(fresh, source()) is None


def test_pruning_knows_times_that_a_caller_has_set(stage: GatewayStage) -> None:
    store = stage.open()
    for chat in "1234":
        store.get_or_create_session(source(chat))
    old, new, kept, _ = store._entries.values()
    old.updated_at = old.updated_at.replace(tzinfo=None) - timedelta(days=100)
    kept.updated_at -= timedelta(days=100)
    kept.suspended = True
    assert store.prune_old_entries(90) == 1
    stage.clock.advance(100 * DAY)
    new.updated_at = datetime.fromtimestamp(stage.clock.now_ms() / 1000, UTC)
    assert store.prune_old_entries(90) == 1
    assert {entry.session_key for entry in store.list_sessions()} == {new.session_key, kept.session_key}
    assert store.get_or_create_session(source("2")).session_id == new.session_id
    stage.clock.advance(91 * DAY)
    assert store.prune_old_entries(90) == 1


def test_entries_that_are_put_in_live_there_with_their_times(stage: GatewayStage) -> None:
    store = stage.open()
    for number, (days, suspended) in enumerate([(100, False), (100, True), (1, False)]):
        key = f"s{number}"  # as gateways' own tests name them
        store._entries[key] = an_entry(key, days, suspended=suspended, total_tokens=number)
    assert sorted(store._entries) == ["s0", "s1", "s2"]
    assert store._entries["s2"] == an_entry("s2", 1, total_tokens=2)
    assert store.prune_old_entries(90) == 1
    assert sorted(store._entries) == ["s1", "s2"]
    view = store.engine.get("s1")
    assert view is not None
    assert view.status is Status.SUSPENDED
    assert store.update_session("s2", last_prompt_tokens=3) is None
    assert store._entries["s2"].updated_at == datetime.fromtimestamp(T0 / 1000, UTC)


def test_an_entry_that_is_put_in_takes_the_place_of_another(stage: GatewayStage) -> None:
    store = stage.open()
    first = store.get_or_create_session(source())
    mine = an_entry(KEY, 1, resume_pending=True)
    store._entries[KEY] = mine
    assert store._entries[KEY].session_id == mine.session_id != first.session_id
    mine.display_name = "Ana"
    assert store.get_or_create_session(source()).display_name == "Ana"
    before = records(store)
    mine.display_name = "Eva"
    store._entries[KEY] = mine
    assert records(store) == before + 1
    assert store._entries[KEY].display_name == "Eva"
    assert not store.save_entry(first)  # its session has ended
    first.display_name = "Udo"
    store._save()
    assert store._entries[KEY].display_name == "Eva"


def test_entries_are_removed_and_replaced(stage: GatewayStage) -> None:
    store = stage.open()
    for chat in "123":
        store.get_or_create_session(source(chat))
    first, second, third = store._entries
    del store._entries[first]
    assert store._entries.pop(first, None) is None
    assert store._entries.pop(second).session_key == second
    with pytest.raises(KeyError):
        del store._entries["no\nkey"]
    assert list(store._entries) == [third]
    store._entries = {KEY: an_entry(KEY)}
    assert list(store._entries) == [KEY]
    for bad, error in ((an_entry("k", session_id="../x"), InvalidEvent), (an_entry("a\nb"), InvalidKey)):
        with pytest.raises(error):
            store._entries[bad.session_key] = bad


def test_sessions_that_end_while_they_are_listed_are_no_errors(stage: GatewayStage) -> None:
    store = stage.open()
    for chat in "1234":
        store.get_or_create_session(source(chat))
    seen = []
    for key, entry in store._entries.items():
        assert entry.session_key == key
        seen.append(key)
        for other in list(store._entries):
            store._entries.pop(other, None)
    assert len(seen) == 4
    assert len(store._entries) == 0


def test_a_change_that_cannot_be_saved_fails_no_other_call(
    stage: GatewayStage, caplog: pytest.LogCaptureFixture
) -> None:
    store = stage.open()
    entry = store.get_or_create_session(source())
    other = store.get_or_create_session(source("2"))
    entry.session_id, other.display_name = "../etc", "Ana"
    assert len(store.list_sessions()) == 2
    assert "was not saved" in caplog.text
    assert store._entries[other.session_key].display_name == "Ana"
    bad = store._entries[KEY]
    bad.session_id = "../etc"
    other.display_name = "Eva"
    with pytest.raises(InvalidEvent):
        store._save()
    assert store._entries[other.session_key].display_name == "Eva"


def test_a_change_waits_for_a_log_that_is_down(stage: GatewayStage, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stage.open()
    entry = store.get_or_create_session(source())
    stage.clock.advance(HOUR + MIN)

    def down(*_: object, **__: object) -> None:
        raise LogUnavailable("the log is down")

    entry.display_name = "Ana"
    with monkeypatch.context() as patched:
        patched.setattr(store.engine, "touch", down)
        assert store._entries[KEY].display_name is None
    assert store._entries[KEY].display_name == "Ana"

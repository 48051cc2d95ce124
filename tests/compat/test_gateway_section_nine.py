"""Section 9 of the design, row 1: what the gateway's session store did, and must keep doing. One test a clause."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_stage import DAY, KEY, MIN, GatewayStage, records, source

from lastseen.compat.gateway import ExpiryWatcher, GatewayConfig, SessionEntry, SessionResetPolicy


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[GatewayStage]:
    stage = GatewayStage(tmp_path)
    yield stage
    stage.close()


def test_prune_by_last_update_and_not_by_creation(stage: GatewayStage) -> None:
    store = stage.open()
    for chat in ("old but in use", "old"):
        store.get_or_create_session(source(chat))
    stage.clock.advance(80 * DAY)
    store.update_session("agent:main:telegram:dm:old but in use")
    stage.clock.advance(10 * DAY)
    assert store.prune_old_entries(90) == 0  # exactly 90 days is not longer than 90 days
    stage.clock.advance(1)
    assert store.prune_old_entries(90) == 1
    assert [entry.session_key for entry in store.list_sessions()] == ["agent:main:telegram:dm:old but in use"]


def test_session_store_max_age_days_is_90_by_default() -> None:
    assert GatewayConfig().session_store_max_age_days == 90
    assert GatewayConfig.from_dict({}).session_store_max_age_days == 90


@pytest.mark.parametrize("days", [0, -1, None])
def test_0_disables_pruning(stage: GatewayStage, days: int | None) -> None:
    store = stage.open(session_store_max_age_days=0)
    store.get_or_create_session(source())
    stage.clock.advance(10_000 * DAY)
    assert store.prune_old_entries(days) == 0
    assert ExpiryWatcher(store).tick() == 0
    assert len(store.list_sessions()) == 1


@pytest.mark.parametrize(
    ("given", "days"),
    [(-5, 0), ("-5", 0), ("30", 30), (45.9, 45), (True, 1), ("soon", 90), (None, 90), ([], 90), (float("inf"), 90)],
)
def test_session_store_max_age_days_negative_is_0_and_unparsable_is_90(given: object, days: int) -> None:
    assert GatewayConfig.from_dict({"session_store_max_age_days": given}).session_store_max_age_days == days


def test_session_store_max_age_days_round_trips_through_its_dict_form() -> None:
    config = GatewayConfig(session_store_max_age_days=17)
    assert config.to_dict()["session_store_max_age_days"] == 17
    assert GatewayConfig.from_dict(config.to_dict()) == config


def test_suspended_sessions_are_kept(stage: GatewayStage) -> None:
    store = stage.open()
    kept = store.get_or_create_session(source())
    store.get_or_create_session(source("other"))
    store.suspend_session(KEY)
    stage.clock.advance(100 * DAY)
    assert store.prune_old_entries(90) == 1
    assert [(entry.session_id, entry.suspended) for entry in store.list_sessions()] == [(kept.session_id, True)]


def test_sessions_with_an_active_background_process_are_kept(stage: GatewayStage) -> None:
    store = stage.open()
    store.get_or_create_session(source())
    store.get_or_create_session(source("other"))
    stage.busy.add(KEY)
    stage.clock.advance(100 * DAY)
    assert store.prune_old_entries(90) == 1
    assert [entry.session_key for entry in store.list_sessions()] == [KEY]
    stage.busy.clear()
    assert store.prune_old_entries(90) == 1
    assert store.list_sessions() == []


def test_prune_reports_how_many(stage: GatewayStage, caplog: pytest.LogCaptureFixture) -> None:
    store = stage.open()
    for number in range(2_345):  # more than one append takes
        store.engine.create(f"agent:main:telegram:dm:{number}", policy=store._sessions._policy)
    stage.clock.advance(91 * DAY)
    store.get_or_create_session(source("in use"))
    with caplog.at_level("INFO", "lastseen"):
        assert store.prune_old_entries(90) == 2_345
    assert "pruned 2345 sessions" in caplog.text
    assert len(store.list_sessions()) == 1


def test_the_disk_is_written_only_when_something_was_removed(stage: GatewayStage) -> None:
    store = stage.open(quick=False)
    store.get_or_create_session(source())
    written = records(store)
    stage.clock.advance(DAY)
    assert store.prune_old_entries(90) == 0
    assert records(store) == written
    stage.clock.advance(90 * DAY)
    assert store.prune_old_entries(90) == 1
    assert records(store) == written + 1


def test_the_disk_is_equal_to_memory_after_a_prune(stage: GatewayStage) -> None:
    store = stage.open(quick=False)
    for chat in "abcdef":
        store.get_or_create_session(source(chat, chat_name=f"chat {chat}"))
        stage.clock.advance(20 * DAY)
    store.suspend_session("agent:main:telegram:dm:b")
    store.mark_resume_pending("agent:main:telegram:dm:f", "restart_timeout")
    assert store.prune_old_entries(60) == 2  # a and c
    in_memory = store.list_sessions()
    store.close()
    assert stage.open(quick=False).list_sessions() == in_memory
    assert [entry.session_key[-1] for entry in in_memory] == ["f", "e", "d", "b"]


def test_safe_under_concurrent_readers(stage: GatewayStage) -> None:
    store = stage.open()
    for number in range(400):
        store.get_or_create_session(source(str(number)))
        stage.clock.advance(DAY)
    failures: list[BaseException] = []
    counts: list[int] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                entries: list[SessionEntry] = store.list_sessions()
                counts.append(len(entries))
                assert len({entry.session_key for entry in entries}) == len(entries)
                store.get_or_create_session(source("399"))
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    pruned = [store.prune_old_entries(days) for days in (350, 250, 150, 90)]
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert sum(pruned) == 400 - 90
    assert len(store.list_sessions()) == 90
    assert counts


def test_a_session_that_is_used_while_it_is_about_to_be_pruned_lives_on(stage: GatewayStage) -> None:
    store = stage.open()
    store.get_or_create_session(source())
    store.get_or_create_session(source("other"))
    stage.clock.advance(91 * DAY)

    def used_meanwhile(session_key: str) -> bool:
        if session_key == KEY:
            store.get_or_create_session(source())
        return False

    store._has_active_processes_fn = used_meanwhile
    assert store.prune_old_entries(90) == 1
    assert [entry.session_key for entry in store.list_sessions()] == [KEY]


def test_first_check_at_once_then_hourly(stage: GatewayStage, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stage.open()
    began_ms, passes = stage.clock.now_ms(), []

    def pass_(days: float | None) -> int:
        passes.append((stage.clock.now_ms() - began_ms) // MIN)
        return 1

    monkeypatch.setattr(store, "prune_old_entries", pass_)
    watcher = ExpiryWatcher(store)
    assert watcher.tick() == 1
    for _ in range(40):  # as the gateway ticks
        stage.clock.advance(5 * MIN)
        watcher.tick()
    assert passes == [0, 65, 130, 195]  # once more than an hour has passed


def test_the_watcher_prunes_by_the_configuration(stage: GatewayStage) -> None:
    store = stage.open(session_store_max_age_days=7)
    store.get_or_create_session(source())
    stage.clock.advance(8 * DAY)
    assert ExpiryWatcher(store).tick() == 1
    assert store.list_sessions() == []


def test_a_returning_user_gets_a_fresh_session_and_the_old_transcript_stays_readable(stage: GatewayStage) -> None:
    store = stage.open(quick=False)
    old = store.get_or_create_session(source())
    store.append_to_transcript(old.session_id, {"role": "user", "content": "hello"})
    stage.clock.advance(91 * DAY)
    assert store.prune_old_entries(90) == 1
    new = store.get_or_create_session(source())
    assert new.session_id != old.session_id
    assert new.created_at > old.updated_at
    assert not new.was_auto_reset
    store.close()
    reopened = stage.open(SessionResetPolicy("none"), quick=False)
    assert reopened.load_transcript(old.session_id) == [{"role": "user", "content": "hello"}]
    assert reopened.load_transcript(new.session_id) == []

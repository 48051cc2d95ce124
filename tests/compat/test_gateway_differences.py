"""What the old store got wrong: one test for each difference that docs/how-to/compat-gateway.md names."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gateway_stage import DAY, HOUR, KEY, MIN, T0, GatewayStage, records, source

import lastseen
from lastseen.compat.gateway import ExpiryWatcher, GatewayConfig, SessionEntry, SessionResetPolicy, SessionStore
from lastseen.compat.gateway.reset import last_daily_reset_ms, reset_reason
from lastseen.engine.errors import InvalidEvent, InvalidKey, InvalidSetting, LogUnavailable

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "compat-gateway.md"
IDLE = SessionResetPolicy("idle", idle_minutes=60)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[GatewayStage]:
    stage = GatewayStage(tmp_path)
    yield stage
    stage.close()


def test_every_difference_on_the_page_has_a_test_of_its_name() -> None:
    page = PAGE.read_text("utf-8").partition("## What is different")[2].partition("\n## ")[0]
    names = [re.sub(r"\W+", "_", name.lower()).strip("_") for name in re.findall(r"^### (.+)$", page, re.MULTILINE)]
    tests = [name for name in globals() if name.startswith("test_")]
    assert len(names) > 10
    assert [name for name in names if not any(test.startswith(f"test_{name}") for test in tests)] == []


def test_processes_are_looked_up_by_session_key_and_an_error_keeps_the_session(
    stage: GatewayStage, caplog: pytest.LogCaptureFixture
) -> None:
    store = stage.open(IDLE)
    old = store.get_or_create_session(source())
    stage.clock.advance(91 * DAY)
    stage.fails = True
    assert store.prune_old_entries(90) == 0
    assert store.get_or_create_session(source()).session_id == old.session_id  # not reset either
    assert "the process registry is down" in caplog.text
    assert set(stage.asked) == {KEY}
    stage.fails = False
    stage.clock.advance(91 * DAY)
    assert store.prune_old_entries(90) == 1


def test_a_suspended_session_can_be_resumed(stage: GatewayStage) -> None:
    store = stage.open(IDLE)
    old = store.get_or_create_session(source())
    store.suspend_session(KEY)
    stage.clock.advance(100 * DAY)
    assert store.resume_session(KEY)
    again = store.get_or_create_session(source())
    assert (again.session_id, again.suspended) == (old.session_id, False)
    assert not store.resume_session(KEY)
    assert not store.resume_session("agent:main:telegram:dm:unknown")


def test_a_suspended_session_expires(stage: GatewayStage) -> None:
    store = stage.open(session_store_suspended_max_age_days=10)
    store.get_or_create_session(source())
    store.suspend_session(KEY)
    stage.clock.advance(10 * DAY - 1)
    assert store.list_sessions()[0].suspended
    stage.clock.advance(1)
    assert store.list_sessions() == []
    assert not store.resume_session(KEY)
    store.engine.prune()
    (life,) = store.engine.session_spans(KEY)
    assert life.reason == "suspend_ttl"
    forever = stage.open(session_store_suspended_max_age_days=0)
    forever.get_or_create_session(source())
    forever.suspend_session(KEY)
    stage.clock.advance(10_000 * DAY)
    assert forever.resume_session(KEY)
    default = stage.open()
    assert default.config.session_store_suspended_max_age_days == 365


def test_a_suspended_session_is_not_updated(stage: GatewayStage) -> None:
    store = stage.open(IDLE)
    store.get_or_create_session(source())
    store.suspend_session(KEY)
    (before,) = store.list_sessions()
    stage.clock.advance(2 * HOUR)
    written = records(store)
    store.update_session(KEY, last_prompt_tokens=5)
    assert not store.mark_resume_pending(KEY)
    late = store._entries[KEY]
    late.last_prompt_tokens = 7
    assert not store.save_entry(late)
    assert not store._is_session_expired(late)
    assert store.list_sessions() == [before]
    assert records(store) == written


def test_times_are_utc(stage: GatewayStage) -> None:
    store = stage.open()
    entry = store.get_or_create_session(source())
    assert entry.created_at.tzinfo is entry.updated_at.tzinfo is UTC
    assert entry.to_dict()["updated_at"].endswith("+00:00")

    naive = datetime.fromtimestamp(T0 / 1000)  # noqa: DTZ006 - as gateways take the time
    later = naive + timedelta(seconds=5)
    for time in (entry.created_at, entry.updated_at, SessionEntry.from_dict(entry.to_dict()).updated_at):
        assert later - time == later.astimezone() - time == timedelta(seconds=5)
        assert (time - later, time - timedelta(0)) == (timedelta(seconds=-5), time)
        assert time == naive
        assert time != later
        assert (time < later, time <= later, time > later, time >= later) == (True, True, False, False)
        assert (later < time, later <= time, later > time, later >= time) == (False, False, True, True)
        assert time < later.astimezone(UTC)
        assert max(naive, time, later) is later
        assert hash(time) == hash(datetime.fromtimestamp(T0 / 1000, UTC))

    def at(text: str) -> int:
        return round(datetime.fromisoformat(text).timestamp() * 1000)

    def struck(zone: str, now: str) -> str:
        return datetime.fromtimestamp(last_daily_reset_ms(4, zone, at(now)) / 1000, UTC).isoformat()

    assert struck("UTC", "2026-07-01T03:59:00Z") == "2026-06-30T04:00:00+00:00"
    assert struck("Asia/Tokyo", "2026-07-01T03:59:00Z") == "2026-06-30T19:00:00+00:00"
    assert struck("Europe/Berlin", "2026-07-01T03:59:00Z") == "2026-07-01T02:00:00+00:00"
    assert struck("Europe/Berlin", "2026-03-29T01:30:00Z") == "2026-03-28T03:00:00+00:00"  # the clock was just put on
    tokyo = SessionResetPolicy("daily", timezone="Asia/Tokyo")
    assert reset_reason(tokyo, at("2026-06-30T18:59:00Z"), at("2026-06-30T19:00:00Z")) == "daily"
    with pytest.raises(InvalidSetting, match="timezone = 'Mars/Olympus'"):
        SessionResetPolicy(timezone="Mars/Olympus")


def test_the_watcher_needs_no_lock(stage: GatewayStage, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stage.open()
    for number in range(200):
        store.get_or_create_session(source(str(number)))
    stage.clock.advance(91 * DAY)
    pruned: list[int] = []
    watchers = [threading.Thread(target=lambda: pruned.append(ExpiryWatcher(store).tick())) for _ in range(3)]
    store._lock = None  # type: ignore[assignment]
    for thread in watchers:
        thread.start()
    for thread in watchers:
        thread.join()
    assert sum(pruned) == 200  # each was pruned once, by one of them
    watcher = ExpiryWatcher(store)
    watcher.tick()
    asked: list[Any] = []

    def unreachable(days: Any) -> int:
        asked.append(days)
        raise LogUnavailable("the disk is full")

    monkeypatch.setattr(store, "prune_old_entries", unreachable)
    stage.clock.advance(-10 * MIN)  # the clock was set back
    assert watcher.tick() == 0
    assert watcher.tick() == 0  # it failed, so it is tried again
    assert asked == [90, 90]


def test_a_stale_save_never_brings_a_session_back(stage: GatewayStage) -> None:
    store = stage.open(quick=False)
    pruned = store.get_or_create_session(source("pruned"))
    replaced = store.get_or_create_session(source())
    used = store.get_or_create_session(source("used"))
    stage.clock.advance(91 * DAY)
    store.update_session("agent:main:telegram:dm:used", last_prompt_tokens=9)
    new = store.reset_session(KEY)
    assert new is not None
    assert store.prune_old_entries(90) == 1
    written = records(store)
    for entry in (pruned, replaced):
        entry.expiry_finalized = True
        entry.last_prompt_tokens = 77
        assert not store.save_entry(entry)
    pruned.total_tokens = replaced.total_tokens = 5
    store._save()
    assert records(store) == written
    used.expiry_finalized = True
    store._save()
    kept = {entry.session_key: entry for entry in store.list_sessions()}
    assert kept[KEY] == new
    assert (kept[used.session_key].expiry_finalized, kept[used.session_key].last_prompt_tokens) == (True, 9)
    assert pruned.session_key not in store._entries
    store.close()
    again = stage.open(quick=False)
    assert {entry.session_id for entry in again.list_sessions()} == {new.session_id, used.session_id}
    assert not again.save_entry(pruned)
    stranger = type(new).from_dict(new.to_dict())
    stranger.total_tokens = 1
    assert not again.save_entry(stranger)  # it was not read from a store


def test_a_save_suspends_resumes_and_names_the_conversation_that_goes_on(stage: GatewayStage) -> None:
    store = stage.open()
    store.get_or_create_session(source())
    entry = store._entries[KEY]
    entry.suspended = True  # as the gateway does with a session that is stuck
    entry.last_prompt_tokens = 3
    store._save()
    (now,) = store.list_sessions()
    assert (now.suspended, now.last_prompt_tokens) == (True, 3)
    now.suspended = False
    now.session_id = "after-the-compression"
    store._save()
    (now,) = store.list_sessions()
    assert (now.suspended, now.session_id) == (False, "after-the-compression")
    now.session_id = "../elsewhere"
    with pytest.raises(InvalidEvent, match="session_id"):
        store.save_entry(now)


def test_saving_is_safe_while_others_read(stage: GatewayStage) -> None:
    store = stage.open()
    store.get_or_create_session(source())
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        kept: deque[object] = deque(maxlen=200)
        try:
            while not done.is_set():
                kept.append(store._entries[KEY])
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 41):
        mine = store._entries[KEY]
        mine.last_prompt_tokens = number
        store._save()
        assert store._entries[KEY].last_prompt_tokens == number
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []


def test_an_ended_session_never_comes_back(stage: GatewayStage) -> None:
    store = stage.open()
    old = store.get_or_create_session(source())
    new = store.reset_session(KEY)
    back = store.switch_session(KEY, old.session_id)
    assert new is not None
    assert back is not None
    assert back.session_id == old.session_id
    assert back.life not in (old.life, new.life)
    assert [life.reason for life in store.engine.session_spans(KEY)] == ["reset", "switch", None]
    assert len(old.session_id) == 22  # 128 bits in base64


def test_a_reset_is_reported_once(stage: GatewayStage) -> None:
    store = stage.open(IDLE, quick=False)
    store.get_or_create_session(source())
    stage.clock.advance(2 * HOUR)
    assert store.get_or_create_session(source()).was_auto_reset
    assert not store.get_or_create_session(source()).was_auto_reset
    store.reset_session(KEY)
    store.close()
    again = stage.open(IDLE, quick=False)
    reported = again.get_or_create_session(source())
    assert reported.is_fresh_reset
    assert not again.get_or_create_session(source()).is_fresh_reset
    reported.is_fresh_reset = False  # as the gateway does
    again._save()
    assert not again.get_or_create_session(source()).is_fresh_reset


def test_activity_depends_on_tokens_and_transcript(stage: GatewayStage) -> None:
    store = stage.open(IDLE)
    for chat, had_activity in (("silent", False), ("spoke", True), ("counted", True)):
        entry = store.get_or_create_session(source(chat))
        if chat == "spoke":
            store.append_to_transcript(entry.session_id, {"role": "user", "content": "hi"})
        if chat == "counted":
            store.update_session(entry.session_key, last_prompt_tokens=10)
        stage.clock.advance(2 * HOUR)
        assert store.get_or_create_session(source(chat)).reset_had_activity is had_activity


def test_marks_postpone_pruning(stage: GatewayStage) -> None:
    store = stage.open(IDLE)
    entry = store.get_or_create_session(source())
    stage.clock.advance(50 * DAY)
    entry.expiry_finalized = True
    assert store.save_entry(entry)
    (marked,) = store.list_sessions()
    assert marked.updated_at == entry.updated_at
    assert store._is_session_expired(marked)
    assert store.list_sessions(active_minutes=60) == []
    stage.clock.advance(90 * DAY)
    assert store.prune_old_entries(90) == 0
    stage.clock.advance(1)
    assert store.prune_old_entries(90) == 1


def test_marks_that_follow_each_other_and_a_suspension_do_not_look_like_use(stage: GatewayStage) -> None:
    store = stage.open()
    entry = store.get_or_create_session(source())
    for _ in range(3):
        stage.clock.advance(HOUR)
        assert store.mark_resume_pending(KEY)
        assert store.list_sessions()[0].updated_at == entry.updated_at
    store.suspend_session(KEY)
    assert store.list_sessions()[0].updated_at == entry.updated_at
    store.resume_session(KEY)
    assert store.list_sessions()[0].updated_at == entry.updated_at + timedelta(hours=3)


def test_transcripts_are_rewritten_whole_or_not_at_all(stage: GatewayStage, caplog: pytest.LogCaptureFixture) -> None:
    store = stage.open()
    said = [{"role": "user", "content": "Grüße"}, {"role": "assistant", "content": "half a pair: \ud83d"}]
    for message in said:
        store.append_to_transcript("s1", message, skip_db=True)
    path = store.get_transcript_path("s1")
    assert path == stage.folder / "s1.jsonl"
    with pytest.raises(TypeError):
        store.rewrite_transcript("s1", [{"role": "user"}, {"content": object()}])
    assert store.load_transcript("s1") == said
    path.write_bytes(path.read_bytes() + b'{"role": "user", "cont')  # a crash
    store.append_to_transcript("s1", {"role": "user", "content": "after"})
    assert store.load_transcript("s1") == [*said, {"role": "user", "content": "after"}]
    assert "line 3 is not JSON" in caplog.text
    store.rewrite_transcript("s1", said[:1])
    assert store.load_transcript("s1") == said[:1]
    assert list(stage.folder.glob(".transcript-*")) == []
    assert store.load_transcript("unknown") == []
    for name in ("../s1", "a/b", "", ".hidden", "a\nb"):
        with pytest.raises(InvalidEvent, match="session_id"):
            store.append_to_transcript(name, {})
        with pytest.raises(InvalidEvent, match="session_id"):
            store.switch_session(KEY, name)


def test_a_rewrite_that_the_disk_refuses_leaves_the_old_transcript(
    stage: GatewayStage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = stage.open()
    store.append_to_transcript("s1", {"content": "kept"})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.rewrite_transcript("s1", [])
    assert store.load_transcript("s1") == [{"content": "kept"}]
    assert list(stage.folder.glob(".transcript-*")) == []
    monkeypatch.setattr(Path, "open", full)
    store.append_to_transcript("s1", {"content": "lost"})  # a message is answered all the same
    assert "No space left" in caplog.text


def test_people_without_a_chat_share_no_direct_message(stage: GatewayStage) -> None:
    store = stage.open()
    ana, bob = (store.get_or_create_session(source("", user_id=user)) for user in ("ana", "bob"))
    assert ana.session_key == "agent:main:telegram:dm::ana"
    assert bob.session_id != ana.session_id
    assert store.get_or_create_session(source("ana", user_id="bob")).session_id not in (ana.session_id, bob.session_id)
    assert store.get_or_create_session(source("", user_id="ana")).session_id == ana.session_id


def test_keys_and_sources_are_bounded(stage: GatewayStage) -> None:
    store = stage.open()
    with pytest.raises(InvalidKey):
        store.get_or_create_session(source("a\nb"))
    with pytest.raises(InvalidKey):
        store.get_or_create_session(source("x" * 600))
    with pytest.raises(InvalidEvent, match="16384"):
        store.get_or_create_session(source(chat_topic="x" * 20_000))
    assert store.list_sessions() == []


def test_invalid_settings_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    policy = SessionResetPolicy.from_dict({"mode": "weekly", "at_hour": 24, "idle_minutes": -1})
    assert (policy.mode, policy.at_hour, policy.idle_minutes) == ("none", 4, 1440)
    assert [word in caplog.text for word in ("'weekly'", "at_hour = 24", "idle_minutes = -1")] == [True] * 3
    nan: Any = float("nan")
    assert SessionResetPolicy(idle_minutes=nan).idle_minutes == 1440
    assert SessionResetPolicy(idle_minutes=0.5).idle_minutes == 0.5


def test_several_gateways_share_one_log(stage: GatewayStage) -> None:
    with lastseen.open_engine("memory://", clock=stage.clock, background=False) as engine:
        engine.create("another's")
        config = GatewayConfig(default_reset_policy=SessionResetPolicy("none"))
        stores = [SessionStore(stage.folder, config, engine=engine, clock=stage.clock) for _ in range(2)]
        assert stores[0].get_or_create_session(source()) == stores[1].get_or_create_session(source())
        stage.clock.advance(91 * DAY)
        assert stores[1].prune_old_entries(90) == 1
        assert stores[0].list_sessions() == []
        assert stores[0].prune_old_entries(90) == 0
        stores[0].close()
        assert engine.count() == 1  # the engine was lent, and others have sessions in it

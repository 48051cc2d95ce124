"""The calls of the gateway's session store, one by one, as its users know them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gateway_stage import DAY, HOUR, KEY, MIN, T0, GatewayStage, records, source

from lastseen.compat.gateway import GatewayConfig, Platform, SessionEntry, SessionResetPolicy, SessionSource
from lastseen.compat.gateway.reset import reset_reason

IDLE = SessionResetPolicy("idle", idle_minutes=60)


def at(text: str) -> int:
    """Milliseconds of a time."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[GatewayStage]:
    stage = GatewayStage(tmp_path)
    yield stage
    stage.close()


def test_get_or_create_session_creates_and_then_goes_on(stage: GatewayStage) -> None:
    store = stage.open()
    made = store.get_or_create_session(source(chat_name="Ana's chat", user_name="Ana"))
    stage.clock.advance(MIN)
    again = store.get_or_create_session(source())
    assert (made.session_key, made.display_name, made.platform) == (KEY, "Ana's chat", Platform.TELEGRAM)
    assert made.origin == source(chat_name="Ana's chat", user_name="Ana")
    assert made.created_at == made.updated_at == datetime.fromtimestamp(T0 / 1000, UTC)
    assert (again.session_id, again.created_at) == (made.session_id, made.created_at)
    assert again.updated_at == datetime.fromtimestamp((T0 + MIN) / 1000, UTC)
    assert not made.was_auto_reset
    assert records(store) == 2


def test_get_or_create_session_with_force_new(stage: GatewayStage) -> None:
    store = stage.open()
    old = store.get_or_create_session(source(), force_new=True)
    new = store.get_or_create_session(source(chat_name="Renamed"), force_new=True)
    assert new.session_id != old.session_id
    assert new.display_name == "Renamed"
    assert not new.was_auto_reset
    assert len(store.list_sessions()) == 1


@pytest.mark.parametrize("policy", [IDLE, SessionResetPolicy("both", idle_minutes=60)])
def test_an_idle_session_is_reset_when_the_user_returns(stage: GatewayStage, policy: SessionResetPolicy) -> None:
    store = stage.open(policy)
    stage.clock.set(at("2023-11-15T10:00:00Z"))
    old = store.get_or_create_session(source())
    stage.clock.advance(60 * MIN)
    assert store.get_or_create_session(source()).session_id == old.session_id  # not longer than an hour
    stage.clock.advance(60 * MIN + 1)
    new = store.get_or_create_session(source())
    assert new.session_id != old.session_id
    assert (new.was_auto_reset, new.auto_reset_reason, new.reset_had_activity) == (True, "idle", False)
    (first, _) = store.engine.session_spans(KEY)
    assert first.reason == "idle_reset"


def test_a_session_of_yesterday_is_reset_after_at_hour(stage: GatewayStage) -> None:
    store = stage.open(SessionResetPolicy("daily"))
    stage.clock.set(at("2023-11-15T03:59:59.999Z"))
    old = store.get_or_create_session(source())
    stage.clock.set(at("2023-11-15T04:00:00Z"))
    new = store.get_or_create_session(source())
    assert (new.session_id != old.session_id, new.auto_reset_reason) == (True, "daily")
    stage.clock.set(at("2023-11-16T03:59:59.999Z"))
    assert store.get_or_create_session(source()).session_id == new.session_id


@pytest.mark.parametrize(
    ("mode", "updated", "now", "reason"),
    [
        ("none", "2023-01-01T00:00:00Z", "2023-11-15T12:00:00Z", None),
        ("idle", "2023-11-14T12:00:00Z", "2023-11-15T12:00:00Z", None),  # 1440 minutes are not more than 1440
        ("idle", "2023-11-14T11:59:59.999Z", "2023-11-15T12:00:00Z", "idle"),
        ("daily", "2023-11-15T03:59:59.999Z", "2023-11-15T04:00:00Z", "daily"),
        ("daily", "2023-11-15T04:00:00Z", "2023-11-16T03:59:59.999Z", None),
        ("daily", "2023-11-14T03:59:59.999Z", "2023-11-15T03:00:00Z", "daily"),
        ("both", "2023-11-13T12:00:00Z", "2023-11-15T12:00:00Z", "idle"),
        ("both", "2023-11-15T03:00:00Z", "2023-11-15T12:00:00Z", "daily"),
        ("both", "2023-11-15T05:00:00Z", "2023-11-15T12:00:00Z", None),
    ],
)
def test_reset_policy_daily_idle_both_none(mode: str, updated: str, now: str, reason: str | None) -> None:
    assert reset_reason(SessionResetPolicy(mode), at(updated), at(now)) == reason


def test_reset_policy_defaults_and_per_platform_and_type() -> None:
    default = SessionResetPolicy()
    assert (default.mode, default.at_hour, default.idle_minutes) == ("both", 4, 1440)
    config = GatewayConfig(
        reset_by_type={"group": IDLE}, reset_by_platform={Platform.SLACK: SessionResetPolicy("none")}
    )
    assert config.get_reset_policy(Platform.SLACK, "group").mode == "none"
    assert config.get_reset_policy(Platform.TELEGRAM, "group") is IDLE
    assert config.get_reset_policy(Platform.TELEGRAM, "dm") == default == config.get_reset_policy()


def test_reset_policy_per_platform_and_type_is_what_a_message_meets(stage: GatewayStage) -> None:
    store = stage.open(reset_by_type={"group": IDLE}, reset_by_platform={Platform.DISCORD: IDLE})
    chats = {
        "dm": source(), "group": source(chat_type="group"), "discord": source(platform=Platform.DISCORD),
    }  # fmt: skip
    before = {name: store.get_or_create_session(chat).session_id for name, chat in chats.items()}
    stage.clock.advance(2 * HOUR)
    after = {name: store.get_or_create_session(chat).session_id for name, chat in chats.items()}
    assert [name for name in chats if before[name] != after[name]] == ["group", "discord"]


def test_configuration_round_trips_and_carries_what_is_not_about_sessions() -> None:
    config = GatewayConfig.from_dict({
        "default_reset_policy": {"mode": "daily", "at_hour": None, "notify": "off", "timezone": "Europe/Berlin"},
        "reset_by_type": {"group": {"mode": "idle", "idle_minutes": 15}},
        "reset_by_platform": {"slack": {"mode": "none"}, "telepathy": {"mode": "idle"}},
        "sessions_dir": "/var/lib/gateway", "group_sessions_per_user": "no", "thread_sessions_per_user": "yes",
        "platforms": {"telegram": {"enabled": True}}, "streaming": {"enabled": False},
    })  # fmt: skip
    assert config.default_reset_policy == SessionResetPolicy("daily", 4, notify=False, timezone="Europe/Berlin")
    assert config.reset_by_type["group"].idle_minutes == 15
    assert list(config.reset_by_platform) == [Platform.SLACK]
    assert (config.group_sessions_per_user, config.thread_sessions_per_user) == (False, True)
    plain = config.to_dict()
    assert plain["platforms"] == {"telegram": {"enabled": True}}
    assert plain["streaming"] == {"enabled": False}
    assert plain["sessions_dir"] == "/var/lib/gateway"
    assert GatewayConfig.from_dict(plain) == config


def test_update_session(stage: GatewayStage) -> None:
    store = stage.open()
    store.get_or_create_session(source())
    stage.clock.advance(MIN)
    store.update_session(KEY, last_prompt_tokens=1234)
    store.update_session(KEY)
    store.update_session("agent:main:telegram:dm:unknown", last_prompt_tokens=1)
    store.update_session("no\nkey")
    (entry,) = store.list_sessions()
    assert entry.last_prompt_tokens == 1234
    assert entry.updated_at == datetime.fromtimestamp((T0 + MIN) / 1000, UTC)
    store.update_session(KEY, last_prompt_tokens=0)
    assert store.list_sessions()[0].last_prompt_tokens == 0


def test_reset_session(stage: GatewayStage) -> None:
    store = stage.open()
    old = store.get_or_create_session(source(chat_name="Ana"))
    store.update_session(KEY, last_prompt_tokens=9)
    new = store.reset_session(KEY)
    assert new is not None
    assert new.session_id != old.session_id
    assert (new.is_fresh_reset, new.was_auto_reset, new.last_prompt_tokens) == (True, False, 0)
    assert (new.origin, new.display_name, new.platform) == (old.origin, "Ana", Platform.TELEGRAM)
    renamed = store.reset_session(KEY, display_name="Bo")
    assert renamed is not None
    assert renamed.display_name == "Bo"
    assert store.reset_session("agent:main:telegram:dm:unknown") is None
    assert len(store.list_sessions()) == 1


def test_switch_session(stage: GatewayStage) -> None:
    store = stage.open()
    old = store.get_or_create_session(source())
    store.append_to_transcript(old.session_id, {"role": "user", "content": "remember me"})
    new = store.reset_session(KEY)
    assert new is not None
    same = store.switch_session(KEY, new.session_id)
    assert same is not None
    assert same.session_id == new.session_id
    back = store.switch_session(KEY, old.session_id)
    assert back is not None
    assert back.session_id == old.session_id == store.get_or_create_session(source()).session_id
    assert store.load_transcript(back.session_id)[0]["content"] == "remember me"
    assert store.switch_session("agent:main:telegram:dm:unknown", old.session_id) is None


def test_suspend_session(stage: GatewayStage) -> None:
    store = stage.open()
    old = store.get_or_create_session(source())
    assert store.suspend_session(KEY)
    assert store.suspend_session(KEY)
    assert not store.suspend_session("agent:main:telegram:dm:unknown")
    assert store.list_sessions()[0].suspended
    new = store.get_or_create_session(source())
    assert new.session_id != old.session_id
    assert (new.was_auto_reset, new.auto_reset_reason, new.suspended) == (True, "suspended", False)


def test_list_sessions_active_minutes(stage: GatewayStage) -> None:
    store = stage.open()
    for chat in "abc":
        store.get_or_create_session(source(chat))
        stage.clock.advance(10 * MIN)
    assert [entry.session_key[-1] for entry in store.list_sessions()] == ["c", "b", "a"]
    assert [entry.session_key[-1] for entry in store.list_sessions(active_minutes=20)] == ["c", "b"]
    assert [entry.session_key[-1] for entry in store.list_sessions(active_minutes=0)] == []


def test_has_any_sessions_counts_those_that_have_ended(stage: GatewayStage) -> None:
    store = stage.open(quick=False)
    assert not store.has_any_sessions()
    store.get_or_create_session(source())
    assert not store.has_any_sessions()
    store.reset_session(KEY)
    assert store.has_any_sessions()
    store.close()
    assert stage.open(quick=False).has_any_sessions()


def test_resume_pending_survives_the_reset_policy_and_is_cleared(stage: GatewayStage) -> None:
    store = stage.open(IDLE)
    old = store.get_or_create_session(source())
    assert store.mark_resume_pending(KEY, "shutdown")
    (entry,) = store.list_sessions()
    assert (entry.resume_pending, entry.resume_reason) == (True, "shutdown")
    assert entry.last_resume_marked_at == old.updated_at
    stage.clock.advance(DAY)
    assert store.get_or_create_session(source()).session_id == old.session_id
    assert store.clear_resume_pending(KEY)
    assert not store.clear_resume_pending(KEY)
    assert store.list_sessions()[0].last_resume_marked_at is None
    stage.clock.advance(DAY)
    assert store.get_or_create_session(source()).session_id != old.session_id
    assert not store.mark_resume_pending("agent:main:telegram:dm:unknown")


def test_suspend_recently_active_marks_the_recent_once(stage: GatewayStage) -> None:
    store = stage.open()
    for chat in ("long ago", "suspended", "now"):
        store.get_or_create_session(source(chat))
        stage.clock.advance(0 if chat == "suspended" else 121_000 if chat == "long ago" else 120_000)
    store.suspend_session("agent:main:telegram:dm:suspended")
    assert store.suspend_recently_active() == 1
    assert store.suspend_recently_active() == 0
    marked = [entry for entry in store.list_sessions() if entry.resume_pending]
    assert [(entry.session_key[-3:], entry.resume_reason) for entry in marked] == [("now", "restart_interrupted")]


def test_an_entry_round_trips_through_its_dict_form(stage: GatewayStage) -> None:
    store = stage.open()
    store.get_or_create_session(source(chat_name="Ana"))
    store.update_session(KEY, last_prompt_tokens=3)
    store.mark_resume_pending(KEY)
    (entry,) = store.list_sessions()
    assert SessionEntry.from_dict(entry.to_dict()) == entry
    old: dict[str, Any] = {
        "session_key": KEY, "session_id": "s", "created_at": "2026-01-01T12:00:00+02:00",
        "updated_at": "2026-01-01T12:00:00Z", "memory_flushed": True, "platform": "telepathy",
    }  # fmt: skip
    read = SessionEntry.from_dict(old)
    assert (read.expiry_finalized, read.platform) == (True, None)
    assert read.created_at.isoformat() == "2026-01-01T10:00:00+00:00"


def test_what_the_gateway_reaches_for_inside(stage: GatewayStage) -> None:
    store = stage.open(IDLE)
    store.get_or_create_session(source())
    store._ensure_loaded()
    with store._lock:
        store._ensure_loaded_locked()
        assert KEY in store._entries
        assert "no\nkey" not in store._entries
        assert list(store._entries) == [KEY]
        assert len(store._entries) == 1
        (entry,) = store._entries.values()
    assert store._generate_session_key(source()) == KEY
    assert not store._is_session_expired(entry)
    stage.clock.advance(2 * HOUR)
    assert store._is_session_expired(entry)
    stage.busy.add(KEY)
    assert not store._is_session_expired(entry)


def test_all_sessions_of_a_user_can_be_listed(stage: GatewayStage) -> None:
    store = stage.open()
    chats = [source(user_id="ana"), source("g", chat_type="group", user_id="ana")]
    chats += [source("g", chat_type="group", user_id="ana", thread_id="t"), source("other", user_id="bo")]
    for chat in chats:
        store.get_or_create_session(chat)
    found = {session.key for session in store.engine.list(owner="telegram:ana").sessions}
    assert found == {KEY, "agent:main:telegram:group:g:ana"}  # a shared thread has no owner


def test_two_gateways_that_reset_a_session_at_once_get_the_same_fresh_one(stage: GatewayStage) -> None:
    store = stage.open(IDLE)
    store.get_or_create_session(source())
    stage.clock.advance(2 * HOUR)
    theirs: list[str] = []

    def other_first(**_: Any) -> SessionResetPolicy:
        if not theirs:  # the other gateway decides in between, which comes here again
            theirs.append("")
            theirs[0] = store.get_or_create_session(source()).session_id
        return IDLE

    store.config.get_reset_policy = other_first
    assert store.get_or_create_session(source()).session_id == theirs[0]
    assert store.engine.statistics()["created"] == 2


def test_a_session_that_another_gateway_uses_meanwhile_is_not_reset(stage: GatewayStage) -> None:
    store = stage.open(IDLE)
    old = store.get_or_create_session(source())
    stage.clock.advance(2 * HOUR)

    def used_meanwhile(**_: Any) -> SessionResetPolicy:
        store.update_session(KEY)
        return IDLE

    store.config.get_reset_policy = used_meanwhile
    assert store.get_or_create_session(source()).session_id == old.session_id


def test_a_mark_does_not_hide_that_the_session_was_used_meanwhile(
    stage: GatewayStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stage.open()
    store.get_or_create_session(source())
    touch, used_ms = store.engine.touch, T0 + HOUR

    def used_first(key: str, **given: Any) -> Any:
        if stage.clock.now_ms() < used_ms:
            stage.clock.set(used_ms)
            touch(key)
            stage.clock.advance(HOUR)
        return touch(key, **given)

    monkeypatch.setattr(store.engine, "touch", used_first)
    assert store.mark_resume_pending(KEY)
    (entry,) = store.list_sessions()
    assert entry.resume_pending
    assert entry.updated_at == datetime.fromtimestamp(used_ms / 1000, UTC)


def test_a_message_that_gives_no_platform_is_refused() -> None:
    with pytest.raises(ValueError, match="telepathy"):
        SessionSource(platform="telepathy", chat_id="1")  # type: ignore[arg-type]

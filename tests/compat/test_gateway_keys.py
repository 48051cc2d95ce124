"""The session key: deterministic, from platform, chat, thread and user."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

import pytest
from gateway_stage import source
from hypothesis import given
from hypothesis import strategies as st

from lastseen.compat.gateway import (
    GatewayConfig,
    Platform,
    SessionResetPolicy,
    SessionSource,
    build_session_key,
    is_shared_multi_user_session,
)
from lastseen.compat.gateway.whatsapp import canonical_identifier

GROUP = {"chat_type": "group", "chat_id": "g", "user_id": "u"}
CASES: list[tuple[str, dict[str, Any], dict[str, bool], str]] = [
    ("direct messages go by chat", {"chat_id": "c", "user_id": "u"}, {}, "telegram:dm:c"),
    ("and by thread within it", {"chat_id": "c", "thread_id": "t"}, {}, "telegram:dm:c:t"),
    ("without a chat by thread", {"chat_id": "", "thread_id": "t"}, {}, "telegram:dm:t"),
    ("without either, and a user, they share one", {"chat_id": ""}, {}, "telegram:dm"),
    ("without a chat by user", {"chat_id": "", "user_id": "u"}, {}, "telegram:dm::u"),
    ("and by thread", {"chat_id": "", "user_id": "u", "thread_id": "t"}, {}, "telegram:dm::u:t"),
    ("by the lasting id", {"chat_id": "", "user_id": "u", "user_id_alt": "a"}, {}, "telegram:dm::a"),
    ("whatsapp without a number", {"platform": Platform.WHATSAPP, "chat_id": "@lid", "user_id": "601@lid"}, {},
     "whatsapp:dm::601"),
    ("groups go by chat and user", GROUP, {}, "telegram:group:g:u"),
    ("by the user's lasting id", {**GROUP, "user_id_alt": "lasting"}, {}, "telegram:group:g:lasting"),
    ("unless they are shared", GROUP, {"group_sessions_per_user": False}, "telegram:group:g"),
    ("or no user is named", {**GROUP, "user_id": None}, {}, "telegram:group:g"),
    ("threads are shared", {**GROUP, "thread_id": "t"}, {}, "telegram:group:g:t"),
    ("unless they go by user", {**GROUP, "thread_id": "t"}, {"thread_sessions_per_user": True},
     "telegram:group:g:t:u"),
    ("which shared groups forbid", {**GROUP, "thread_id": "t"},
     {"thread_sessions_per_user": True, "group_sessions_per_user": False}, "telegram:group:g:t"),
    ("channels are like groups", {**GROUP, "chat_type": "channel"}, {}, "telegram:channel:g:u"),
    ("a group without an id", {**GROUP, "chat_id": ""}, {}, "telegram:group:u"),
    ("whatsapp goes by number", {"platform": Platform.WHATSAPP, "chat_id": "+601:47@s.whatsapp.net"}, {},
     "whatsapp:dm:601"),
    ("whatsapp users too", {**GROUP, "platform": Platform.WHATSAPP, "user_id": "601@lid"}, {}, "whatsapp:group:g:601"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "fields", "sharing", "key"), CASES)
def test_deterministic_key_from_platform_chat_thread_and_user(
    case: str, fields: dict[str, Any], sharing: dict[str, bool], key: str
) -> None:
    made = source(**{"user_id": None, **fields})
    assert build_session_key(made, **sharing) == f"agent:main:{key}", case
    assert build_session_key(SessionSource.from_dict(made.to_dict()), **sharing) == f"agent:main:{key}", case


@given(
    st.sampled_from(["dm", "group", "channel", "thread"]), st.text(max_size=3), st.none() | st.text(max_size=3),
    st.none() | st.text(max_size=3), st.booleans(), st.booleans(),
)  # fmt: skip
def test_two_users_share_a_key_just_where_the_session_is_said_to_be_shared(
    chat_type: str, chat: str, thread: str | None, user: str | None, per_user: bool, per_thread: bool
) -> None:
    sharing = {"group_sessions_per_user": per_user, "thread_sessions_per_user": per_thread and per_user}
    one, other = (source(chat, chat_type=chat_type, thread_id=thread, user_id=f"{user}{number}") for number in (1, 2))
    same = build_session_key(one, **sharing) == build_session_key(other, **sharing)
    assert same == ((chat_type == "dm" and bool(chat)) or is_shared_multi_user_session(one, **sharing))


def test_a_whatsapp_user_keeps_his_key_under_every_name_that_the_bridge_knows(tmp_path: Path) -> None:
    (tmp_path / "lid-mapping-60123.json").write_text(json.dumps("999@lid"), "utf-8")
    (tmp_path / "lid-mapping-999_reverse.json").write_text(json.dumps("60123@s.whatsapp.net"), "utf-8")
    (tmp_path / "lid-mapping-7.json").write_text("{", "utf-8")
    names = ("+60123", "60123:4@s.whatsapp.net", "999@lid", "999")
    assert {canonical_identifier(name, tmp_path) for name in names} == {"999"}
    assert canonical_identifier("7@lid", tmp_path) == "7"
    assert canonical_identifier("../../etc/passwd", tmp_path) == "../../etc/passwd"
    assert canonical_identifier("", tmp_path) == ""


def test_platforms_are_known_by_name_and_plugins_by_registration() -> None:
    assert Platform(" Telegram ") is Platform.TELEGRAM
    with pytest.raises(ValueError, match="carrier_pigeon"):
        Platform("carrier_pigeon")
    pigeon = Platform.register("Carrier_Pigeon")
    assert Platform("carrier_pigeon") is pigeon is Platform.register("carrier_pigeon")
    assert build_session_key(source("c", platform=pigeon)) == "agent:main:carrier_pigeon:dm:c"
    assert Platform.register("irc") is Platform.IRC


def test_the_gateways_own_classes_may_be_mixed_with_these() -> None:
    class Theirs(enum.Enum):
        TELEGRAM = "telegram"
        DISCORD = "discord"

    Theirs.__name__ = "Platform"
    assert Platform.TELEGRAM == Theirs.TELEGRAM
    assert Platform.TELEGRAM != Theirs.DISCORD
    idle = SessionResetPolicy("idle")
    assert {Theirs.TELEGRAM: idle}[Platform.TELEGRAM] is idle  # type: ignore[index]
    theirs: Any = Theirs.TELEGRAM
    assert GatewayConfig(reset_by_platform={Platform.TELEGRAM: idle}).get_reset_policy(theirs) is idle
    assert build_session_key(source("c", platform=theirs)) == "agent:main:telegram:dm:c"


def test_a_source_says_where_it_is() -> None:
    assert source(user_name="Ana", thread_id="9").description == "DM with Ana, thread: 9"
    assert source(chat_type="group", chat_name="Ops").description == "group: Ops"
    assert source(chat_type="channel").description == "channel: 42"
    assert source(chat_type="thread", chat_name="Help").description == "Help"
    assert source(platform="local").description == "CLI terminal"

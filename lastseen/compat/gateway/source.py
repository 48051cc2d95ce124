"""Where a message comes from, and the session key that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from lastseen.compat.gateway.platform import Platform, platform_name
from lastseen.compat.gateway.surrogates import storable
from lastseen.compat.gateway.whatsapp import canonical_identifier

PREFIX = "agent:main"
"""Every key of a gateway begins so."""
_ALWAYS = ("chat_id", "chat_name", "chat_type", "user_id", "user_name", "thread_id", "chat_topic")
_IF_GIVEN = ("user_id_alt", "chat_id_alt", "guild_id", "parent_chat_id", "message_id")


@dataclass
class SessionSource:
    """Where a message comes from: a chat on a platform, and who wrote it."""

    platform: Platform
    chat_id: str
    chat_name: str | None = None
    chat_type: str = "dm"
    """`dm`, `group`, `channel` or `thread`."""
    user_id: str | None = None
    user_name: str | None = None
    thread_id: str | None = None
    chat_topic: str | None = None
    user_id_alt: str | None = None
    """The platform's lasting id of the user, where `user_id` may change."""
    chat_id_alt: str | None = None
    is_bot: bool = False
    guild_id: str | None = None
    parent_chat_id: str | None = None
    message_id: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.platform, str):
            self.platform = Platform(self.platform)

    @property
    def description(self) -> str:
        """One line for people."""
        if platform_name(self.platform) == Platform.LOCAL.value:
            return "CLI terminal"
        chat = self.chat_name or self.chat_id
        where = {
            "dm": f"DM with {self.user_name or self.user_id or 'user'}",
            "group": f"group: {chat}",
            "channel": f"channel: {chat}",
        }.get(self.chat_type, chat)
        return f"{where}, thread: {self.thread_id}" if self.thread_id else where

    def to_dict(self) -> dict[str, Any]:
        """The source as sessions.json has it."""
        plain = {"platform": platform_name(self.platform)} | {name: getattr(self, name) for name in _ALWAYS}
        return plain | {name: value for name in _IF_GIVEN if (value := getattr(self, name))}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The source that `to_dict` wrote. `ValueError` for an unknown platform, `KeyError` for none."""
        given: dict[str, Any] = {
            name: data.get(name) for name in (*_ALWAYS, *_IF_GIVEN) if name not in ("chat_id", "chat_type")
        }
        return cls(
            platform=Platform(data["platform"]),
            chat_id=str(data["chat_id"]),
            chat_type=data.get("chat_type", "dm"),
            **given,
        )


def participant_of(source: Any) -> str | None:
    """Who wrote the message: the lasting id of the user where there is one."""
    participant = source.user_id_alt or source.user_id
    if participant and platform_name(source.platform) == Platform.WHATSAPP.value:
        return canonical_identifier(participant) or str(participant)
    return str(participant) if participant else None


def is_shared_multi_user_session(
    source: Any, *, group_sessions_per_user: bool = True, thread_sessions_per_user: bool = False
) -> bool:
    """Whether all people in the chat share the session: never a direct message; a thread, and a group if so set."""
    if source.chat_type == "dm":
        return False
    return not (thread_sessions_per_user if source.thread_id else group_sessions_per_user)


def build_session_key(source: Any, group_sessions_per_user: bool = True, thread_sessions_per_user: bool = False) -> str:
    """The key of the session that a message belongs to: `agent:main:<platform>:<type>[:<chat>][:<thread>][:<user>]`.

    Direct messages go by chat, and by thread within it; where a platform names no chat, by user, with an empty place
    for the chat, so that no chat's key can be a user's. Groups go by chat and user, threads by chat and thread, unless
    set otherwise. The same source gives the same key, always.
    """
    platform = platform_name(source.platform)
    chat = source.chat_id
    if source.chat_type == "dm":
        if platform == Platform.WHATSAPP.value:
            chat = canonical_identifier(chat)
        participant = participant_of(source)
        if not chat and participant:
            thread = [str(source.thread_id)] if source.thread_id else []
            by_user: str = storable(":".join([PREFIX, platform, "dm", "", participant, *thread]))
            return by_user
        parts = [chat, source.thread_id]
    else:
        per_user = thread_sessions_per_user and group_sessions_per_user if source.thread_id else group_sessions_per_user
        parts = [chat, source.thread_id, participant_of(source) if per_user else None]
    key: str = storable(":".join([PREFIX, platform, source.chat_type, *(str(part) for part in parts if part)]))
    return key

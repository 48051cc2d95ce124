"""The platforms that a gateway takes messages from."""

from __future__ import annotations

import enum
from typing import Any

from lastseen.engine.errors import InvalidSetting, shown


class Platform(enum.Enum):
    """A messaging platform. A plugin's own is made known by `Platform.register`; any other name is a `ValueError`.

    Equal to the member of the same value in the gateway's own enumeration of this name, so that the two can be mixed
    where only one of the gateway's imports has been changed.
    """

    LOCAL = "local"
    TELEGRAM = "telegram"
    DISCORD = "discord"
    WHATSAPP = "whatsapp"
    SLACK = "slack"
    SIGNAL = "signal"
    MATTERMOST = "mattermost"
    MATRIX = "matrix"
    HOMEASSISTANT = "homeassistant"
    EMAIL = "email"
    SMS = "sms"
    DINGTALK = "dingtalk"
    API_SERVER = "api_server"
    WEBHOOK = "webhook"
    MSGRAPH_WEBHOOK = "msgraph_webhook"
    FEISHU = "feishu"
    WECOM = "wecom"
    WECOM_CALLBACK = "wecom_callback"
    WEIXIN = "weixin"
    BLUEBUBBLES = "bluebubbles"
    QQBOT = "qqbot"
    YUANBAO = "yuanbao"
    GOOGLE_CHAT = "google_chat"
    IRC = "irc"
    LINE = "line"
    TEAMS = "teams"

    @classmethod
    def _missing_(cls, value: object) -> Platform | None:
        """Names are read without regard to case and surrounding blanks."""
        return cls._value2member_map_.get(value.strip().lower()) if isinstance(value, str) else None  # type: ignore[return-value]

    @classmethod
    def register(cls, name: str) -> Platform:
        """Make a plugin's platform known; returns it. Raises `InvalidSetting` for an empty name."""
        value = name.strip().lower()
        if not value:
            raise InvalidSetting(f"platform {shown(name)}: give its name")
        known = cls._missing_(value)
        if known is not None:
            return known
        made: Platform = object.__new__(cls)
        made._value_ = value
        made._name_ = value.upper().replace("-", "_").replace(" ", "_")
        cls._value2member_map_[value] = made
        return made

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Platform):
            return self is other
        is_like = isinstance(other, enum.Enum) and type(other).__name__ == "Platform"
        return is_like and self._value_ == other.value if is_like else NotImplemented  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._name_)  # as every enumeration does


def platform_name(platform: Any) -> str:
    """The name of a platform, of ours or of the gateway's own enumeration; text is taken as it is."""
    return platform if isinstance(platform, str) else str(platform.value)

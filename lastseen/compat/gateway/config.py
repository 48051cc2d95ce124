"""The gateway's configuration, under its own names and units, as far as it is about sessions.

What it says of other things (tokens, streaming, quick commands …) is carried through as it is, in `others`.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass, field, fields
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from lastseen.compat.gateway.platform import Platform, platform_name
from lastseen.engine.errors import InvalidSetting, shown
from lastseen.engine.session import Policy

_logger = logging.getLogger("lastseen")
MODES = ("daily", "idle", "both", "none")
DEFAULT_MAX_AGE_DAYS = 90
DEFAULT_SUSPENDED_MAX_AGE_DAYS = 365
DEFAULT_AT_HOUR, DEFAULT_IDLE_MINUTES = 4, 1440
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
_QUIET_PLATFORMS = ("api_server", "webhook")
_SWITCHES = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def hermes_home() -> Path:
    """The gateway's folder: `HERMES_HOME`, or `.hermes` in the user's own."""
    return Path(os.environ.get("HERMES_HOME") or Path.home() / ".hermes")


def whole_days(value: object, default: int) -> int:
    """A number of days as the gateway reads it: negative is 0, and what is no number is the default."""
    try:
        return max(int(value), 0)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError, OverflowError):
        return default


def flag(value: object, default: bool) -> bool:
    """A switch as the gateway reads it: true, 1, yes, on, and their opposites."""
    if value is None:
        return default
    return _SWITCHES.get(value.strip().lower(), default) if isinstance(value, str) else bool(value)


@dataclass
class SessionResetPolicy:
    """When a returning user gets a fresh session. What is out of range is replaced by the default, with a warning."""

    mode: str = "both"
    """`daily`, `idle`, `both` (whichever comes first) or `none`. An unknown mode resets nothing, as ever."""
    at_hour: int = DEFAULT_AT_HOUR
    """The hour of the daily reset, 0 to 23, in `timezone`."""
    idle_minutes: int | float = DEFAULT_IDLE_MINUTES
    """A session that was not used for longer than this is reset."""
    notify: bool = True
    notify_exclude_platforms: tuple[str, ...] = _QUIET_PLATFORMS
    timezone: str = "UTC"
    """The time zone of `at_hour`: UTC, or a name such as Europe/Berlin. Not in the original."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            _logger.warning("reset mode %s is none of %s: sessions are not reset", shown(self.mode), ", ".join(MODES))
            self.mode = "none"
        if type(self.at_hour) is not int or not 0 <= self.at_hour <= 23:
            _logger.warning("at_hour = %s is not an hour from 0 to 23: it is %d", shown(self.at_hour), DEFAULT_AT_HOUR)
            self.at_hour = DEFAULT_AT_HOUR
        is_number = isinstance(self.idle_minutes, int | float) and not isinstance(self.idle_minutes, bool)
        if not is_number or not math.isfinite(self.idle_minutes) or self.idle_minutes <= 0:
            _logger.warning(
                "idle_minutes = %s is not a number above 0: it is %d", shown(self.idle_minutes), DEFAULT_IDLE_MINUTES
            )
            self.idle_minutes = DEFAULT_IDLE_MINUTES
        zone_of(self.timezone)

    def to_dict(self) -> dict[str, Any]:
        """The policy as the gateway's configuration has it."""
        plain: dict[str, Any] = {
            "mode": self.mode,
            "at_hour": self.at_hour,
            "idle_minutes": self.idle_minutes,
            "notify": self.notify,
            "notify_exclude_platforms": list(self.notify_exclude_platforms),
        }
        return plain if self.timezone == "UTC" else plain | {"timezone": self.timezone}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The policy that a configuration names; what is missing or null is the default."""
        given = {
            name: data[name] for name in ("mode", "at_hour", "idle_minutes", "timezone") if data.get(name) is not None
        }
        excluded = data.get("notify_exclude_platforms")
        return cls(
            **given,
            notify=flag(data.get("notify"), True),
            notify_exclude_platforms=_QUIET_PLATFORMS if excluded is None else tuple(excluded),
        )


def zone_of(name: str) -> tzinfo:
    """The time zone of a name. Raises `InvalidSetting` where there is none."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidSetting(f"timezone = {shown(name)}: give UTC, or a name such as Europe/Berlin") from None


@dataclass
class GatewayConfig:
    """The gateway's settings that sessions depend on, and all others in `others`, untouched."""

    default_reset_policy: SessionResetPolicy = field(default_factory=SessionResetPolicy)
    reset_by_type: dict[str, SessionResetPolicy] = field(default_factory=dict)
    reset_by_platform: dict[Platform, SessionResetPolicy] = field(default_factory=dict)
    reset_triggers: list[str] = field(default_factory=lambda: ["/new", "/reset"])
    sessions_dir: Path = field(default_factory=lambda: hermes_home() / "sessions")
    group_sessions_per_user: bool = True
    """Whether each user of a group has a session of his own."""
    thread_sessions_per_user: bool = False
    """Whether each user of a thread has a session of his own."""
    session_store_max_age_days: int = DEFAULT_MAX_AGE_DAYS
    """Sessions that were not used for longer than this are pruned; 0 prunes none."""
    session_store_suspended_max_age_days: int = DEFAULT_SUSPENDED_MAX_AGE_DAYS
    """A suspended session ends this long after it was suspended; 0 keeps it without limit. Not in the original."""
    others: dict[str, Any] = field(default_factory=dict)
    """What is not about sessions, by its name."""

    def __post_init__(self) -> None:
        self.sessions_dir = Path(self.sessions_dir)
        self.session_store_max_age_days = whole_days(self.session_store_max_age_days, DEFAULT_MAX_AGE_DAYS)
        self.session_store_suspended_max_age_days = whole_days(
            self.session_store_suspended_max_age_days, DEFAULT_SUSPENDED_MAX_AGE_DAYS
        )

    def get_reset_policy(self, platform: Any = None, session_type: str | None = None) -> SessionResetPolicy:
        """The policy for a platform, or else for a type of chat (`dm`, `group` …), or else the default."""
        if platform is not None:
            wanted = platform_name(platform)
            for each, policy in self.reset_by_platform.items():
                if platform_name(each) == wanted:
                    return policy
        return self.reset_by_type.get(session_type or "", self.default_reset_policy)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as the gateway writes it; `from_dict` reads it back."""
        plain = self.others | {
            "default_reset_policy": self.default_reset_policy.to_dict(),
            "reset_by_type": {name: policy.to_dict() for name, policy in self.reset_by_type.items()},
            "reset_by_platform": {
                platform_name(platform): policy.to_dict() for platform, policy in self.reset_by_platform.items()
            },
            "reset_triggers": list(self.reset_triggers),
            "sessions_dir": str(self.sessions_dir),
            "group_sessions_per_user": self.group_sessions_per_user,
            "thread_sessions_per_user": self.thread_sessions_per_user,
            "session_store_max_age_days": self.session_store_max_age_days,
        }
        if self.session_store_suspended_max_age_days != DEFAULT_SUSPENDED_MAX_AGE_DAYS:
            plain["session_store_suspended_max_age_days"] = self.session_store_suspended_max_age_days
        return plain

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The configuration that the gateway's own file names; unknown platforms are passed over."""
        by_platform = {}
        for name, policy in data.get("reset_by_platform", {}).items():
            try:
                platform = Platform(name)
            except ValueError:
                _logger.warning("reset_by_platform: %s is not a known platform; its policy is not used", shown(name))
                continue
            by_platform[platform] = SessionResetPolicy.from_dict(policy)
        given: dict[str, Any] = {
            "reset_by_platform": by_platform,
            "reset_by_type": {
                name: SessionResetPolicy.from_dict(policy) for name, policy in data.get("reset_by_type", {}).items()
            },
            "group_sessions_per_user": flag(data.get("group_sessions_per_user"), True),
            "thread_sessions_per_user": flag(data.get("thread_sessions_per_user"), False),
            "others": {name: value for name, value in data.items() if name not in _OWN},
        }
        if "default_reset_policy" in data:
            given["default_reset_policy"] = SessionResetPolicy.from_dict(data["default_reset_policy"])
        for name in _AS_GIVEN:
            if name in data:
                given[name] = data[name]
        return cls(**given)


_OWN = frozenset(each.name for each in fields(GatewayConfig)) - {"others"}
_AS_GIVEN = (
    "reset_triggers", "sessions_dir", "session_store_max_age_days", "session_store_suspended_max_age_days",
)  # fmt: skip


def policy_of(config: Any) -> Policy:
    """The limits of a gateway's sessions: only a suspended one ends by itself. `gateway_prune` says why."""
    days = getattr(config, "session_store_suspended_max_age_days", DEFAULT_SUSPENDED_MAX_AGE_DAYS)
    return Policy(suspend_ttl_ms=days * DAY_MS if days else None)

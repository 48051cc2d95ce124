"""The session manager's limits: the predecessor's defaults and presets, in milliseconds, and what is worth an alert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from lastseen.engine.errors import InvalidSetting, shown
from lastseen.engine.session import HOUR_MS, MAX_LIMIT_MS

MINUTE_MS = 60_000


class Preset(NamedTuple):
    """When a session is over, and how often that is looked for."""

    session_timeout_ms: int
    cleanup_interval_ms: int


PRODUCTION = Preset(30 * MINUTE_MS, 10 * MINUTE_MS)
"""The defaults."""

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "development": Preset(5 * MINUTE_MS, MINUTE_MS),
        "production": PRODUCTION,
        "high_traffic": Preset(15 * MINUTE_MS, 5 * MINUTE_MS),
        "long_conversations": Preset(2 * HOUR_MS, 30 * MINUTE_MS),
    }
)
"""What the predecessor's guide recommends, by name."""

METRICS_INTERVAL_MS = 5 * MINUTE_MS
"""How often the predecessor's guide logs the metrics."""


def preset(name: str) -> Preset:
    """The preset of that name. Raises `InvalidSetting` where there is none."""
    found = PRESETS.get(name)
    if found is None:
        raise InvalidSetting(f"preset {shown(name)}: the presets are {', '.join(PRESETS)}")
    return found


def checked_ms(name: str, value: object) -> int:
    """`value`, if it is a whole number of milliseconds above zero. Raises `InvalidSetting` naming the setting."""
    # One is left for the boundary: a session is over when *more* than its timeout has passed.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MAX_LIMIT_MS:
        raise InvalidSetting(f"{name} = {shown(value)}: give whole milliseconds from 1 to {MAX_LIMIT_MS - 1}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Above which figures the metrics are worth an alert; each is exceeded by more than itself."""

    active_sessions: int = 1_000
    """Too many at once: sessions leak, or there is more to do than was planned for."""
    oldest_session_ms: int = 2 * HOUR_MS
    """Too old: clean-up does not run, or a conversation never ends."""
    cleaned_share: float = 0.9
    """Churn: hardly any of the sessions that were ever created is still in use."""

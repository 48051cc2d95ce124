"""The limits of the LRU memory: the predecessor's names, units and defaults, with their ranges checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from lastseen.engine.errors import InvalidSetting, shown
from lastseen.engine.session import HOUR_MS, MAX_LIMIT_MS

MAX_MESSAGES = 1_000_000
"""What a policy of the engine takes."""
JSON_NAMES = {
    "maxSessions": "max_sessions",
    "maxMessagesPerSession": "max_messages_per_session",
    "sessionTtlMs": "session_ttl_ms",
    "inactiveTtlMs": "inactive_ttl_ms",
    "cleanupIntervalMs": "cleanup_interval_ms",
}
_MOST = {"max_messages_per_session": MAX_MESSAGES}
_MAY_BE_OFF = ("session_ttl_ms", "inactive_ttl_ms")
_logger = logging.getLogger("lastseen.compat.lru")


@dataclass(frozen=True, slots=True, kw_only=True)
class LruLimits:
    """How many sessions and messages are kept, and for how long. `InvalidSetting` names all values that are wrong."""

    max_sessions: int = 100
    """When there are more, the least recently used go."""
    max_messages_per_session: int = 1_000
    """The newest are kept."""
    session_ttl_ms: int | None = 24 * HOUR_MS
    """A session goes so long after its value was set, used or not; `None`: never."""
    inactive_ttl_ms: int | None = 4 * HOUR_MS
    """It goes so long after it was last used; `None`: never."""
    cleanup_interval_ms: int = 5 * 60_000
    """How often what is over is removed; it is invisible before."""

    def __post_init__(self) -> None:
        _refuse(_faults({field.name: getattr(self, field.name) for field in fields(self)}, {}))

    @classmethod
    def of_section(cls, section: Mapping[str, Any]) -> Self:
        """The limits that the predecessor's JSON configuration section gives, under its names.

        What it does not name has its default. Names that say nothing of limits are left alone, and logged.
        """
        if not isinstance(section, Mapping):
            raise InvalidSetting(f"the section is {shown(section)}: give a JSON object")
        unknown = sorted(str(name) for name in section if name not in JSON_NAMES)
        if unknown:
            _logger.warning("unknown settings are ignored: %s", ", ".join(map(shown, unknown)))
        given = {own: section[name] for name, own in JSON_NAMES.items() if name in section}
        # Here, too, so that the message names the keys as the file has them.
        _refuse(_faults(given, {own: name for name, own in JSON_NAMES.items()}))
        return cls(**given)


def _faults(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    faults = []
    for own, value in values.items():
        if value is None and own in _MAY_BE_OFF:
            continue
        most = _MOST.get(own, MAX_LIMIT_MS)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            null = ", or null for no limit" if own in _MAY_BE_OFF else ""
            faults.append(f"{names.get(own, own)} = {shown(value)}: give a whole number from 1 to {most}{null}")
    return faults


def _refuse(faults: list[str]) -> None:
    if faults:
        raise InvalidSetting("; ".join(faults))

"""Durations that callers give: text such as `30m` or `1h30m`, or a `timedelta`. A bare number has no unit."""

from __future__ import annotations

import enum
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from lastseen.engine.errors import InvalidSetting, shown
from lastseen.engine.session import HOUR_MS, MAX_LIMIT_MS, Policy

_UNITS_MS = {"w": 7 * 24 * HOUR_MS, "d": 24 * HOUR_MS, "h": HOUR_MS, "m": 60_000, "s": 1000, "ms": 1}
"""From the longest to the shortest, which is their order in a duration of several."""
_NUMBER = r"(\d+(?:\.\d+)?)\s*"
_duration = re.compile(r"\s*" + "".join(f"(?:{_NUMBER}{unit}(?![a-z])\\s*)?" for unit in _UNITS_MS))
_MILLISECOND = timedelta(milliseconds=1)


class Unchanged(enum.Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = "UNCHANGED"

    def __repr__(self) -> str:
        return self.value


UNCHANGED: Final = Unchanged.UNCHANGED
"""The default of a limit: as the policy has it. `None` is no default, because it disables a limit."""
Limit = str | timedelta | None | Unchanged


def text_ms(value: object) -> int | None:
    """Milliseconds of `90s`, `1h30m` or a `timedelta`; `None` for anything else. At most 1 more than a limit may be."""
    if isinstance(value, timedelta):
        return min(value // _MILLISECOND, MAX_LIMIT_MS + 1)
    match = _duration.fullmatch(value) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        return None
    parts = zip(match.groups(), _UNITS_MS.values(), strict=True)
    return round(min(sum(float(number) * unit_ms for number, unit_ms in parts if number), float(MAX_LIMIT_MS + 1)))


def limit_ms(name: str, value: object) -> int:
    """Milliseconds of a limit. Raises `InvalidSetting`, also for a bare number, which could be of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise InvalidSetting(
            f"{name} = {shown(value)} has no unit: write '{value}s' for seconds or '{value}ms' for milliseconds, or"
            " give a timedelta"
        )
    milliseconds = text_ms(value)
    if milliseconds is None:
        raise InvalidSetting(f"{name} = {shown(value)}: give a duration such as 90s, 30m or 1h30m, or a timedelta")
    if not 0 < milliseconds <= MAX_LIMIT_MS:
        raise InvalidSetting(f"{name} = {shown(value)}: give more than zero, or None for no limit")
    return milliseconds


def with_limits(policy: Policy, idle_ttl: Limit, max_age: Limit, suspend_ttl: Limit) -> Policy:
    """A policy with other limits where they are given; `None` disables one. Raises `InvalidSetting`."""
    given = {"idle_ttl": idle_ttl, "max_age": max_age, "suspend_ttl": suspend_ttl}
    limits: dict[str, Any] = {
        f"{name}_ms": None if value is None else limit_ms(name, value)
        for name, value in given.items()
        if value is not UNCHANGED
    }
    return replace(policy, **limits) if limits else policy

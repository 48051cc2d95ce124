"""When a returning user gets a fresh session: the reset policy, in pure functions of the policy and the time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from lastseen.compat.gateway.config import MINUTE_MS, zone_of


def reset_reason(policy: Any, updated_at_ms: int, now_ms: int) -> str | None:
    """`idle` if it was not used for longer than `idle_minutes`, else `daily` if an `at_hour` has passed since; or none.

    Both are strict: a session that was used just then, or just so long ago, goes on.
    """
    if policy.mode in ("idle", "both") and now_ms > updated_at_ms + policy.idle_minutes * MINUTE_MS:
        return "idle"
    zone = getattr(policy, "timezone", "UTC")
    if policy.mode in ("daily", "both") and updated_at_ms < last_daily_reset_ms(policy.at_hour, zone, now_ms):
        return "daily"
    return None


def last_daily_reset_ms(at_hour: int, timezone: str, now_ms: int) -> int:
    """The latest moment, in milliseconds, at which a clock in that zone struck the hour."""
    now = datetime.fromtimestamp(now_ms / 1000, zone_of(timezone))
    struck = now.replace(hour=at_hour, minute=0, second=0, microsecond=0, fold=0)
    if struck.timestamp() * 1000 > now_ms:
        struck -= timedelta(days=1)  # by the calendar: a day of 23 or 25 hours is one too
    return round(struck.timestamp() * 1000)

"""Profiles: settings that go together, under one name. What is said elsewhere wins over them.

The limits are those of the session manager that lastseen replaces (DESIGN section 9): a time-out of 5 minutes for
development, 30 by default, 15 for high traffic, 2 hours for long conversations. It also had an interval at which it
cleaned up (1, 10, 5 and 30 minutes). That has no counterpart: the pruner sleeps until the next deadline, so a session
ends when it is due, and nothing is done in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DEFAULT_PROFILE = "production"
PROFILES: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "development": MappingProxyType({"idle_ttl": "5m", "log_format": "lines", "access_log": True}),
        "production": MappingProxyType({"idle_ttl": "30m", "log_format": "json", "freeze": True}),
        "high_traffic": MappingProxyType({"idle_ttl": "15m", "log_format": "json", "freeze": True}),
        "long_running": MappingProxyType({"idle_ttl": "2h", "log_format": "json", "freeze": True}),
    }
)
"""Each profile, and what it sets."""

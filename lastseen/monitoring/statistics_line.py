"""The line that a service logs now and then: what it holds, what came and went, how it keeps up."""

from __future__ import annotations

from typing import Any

from lastseen.embedded.engine import Engine
from lastseen.engine.errors import LastseenError


def statistics_line(engine: Engine) -> dict[str, Any]:
    """An engine's figures, flat, for one log line. Ages in whole seconds; `None` where no session lives.

    Never names a session or a key. Raises nothing: what is unknown is `None`.
    """
    report = engine.statistics()
    now_ms = engine.now_ms()
    try:
        lag_records: int | None = sum(lag.records for lag in engine.lags())
    except LastseenError:
        lag_records = None
    ages = {name: report[f"{name}_created_at_ms"] for name in ("oldest", "newest")}
    return {
        "active_sessions": report["live_by_status"]["active"],
        "suspended_sessions": report["live_by_status"]["suspended"],
        "created_total": report["created"],
        "ended_total": sum(report["ended"].values()),
        "void_total": sum(report["void"].values()),
        **{f"{name}_session_age_s": None if at is None else (now_ms - at) // 1000 for name, at in ages.items()},
        "appended_events": engine.meters.log.appended,
        "lag_records": lag_records,
        "unsaved_sessions": engine.snapshot_state().unsaved,
        "memory_used_ratio": round(engine.memory_share(), 3),
        "failing": sorted(engine.health()),
    }

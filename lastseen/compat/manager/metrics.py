"""The session manager's figures, under the predecessor's names, and the alerts that follow from them."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple, TypedDict

from lastseen.compat.manager.limits import MINUTE_MS, Thresholds

REPLACED = "replaced"
"""Why a session ends that is created once more under its id: the predecessor overwrote it, and counted no cleaning."""


class Metrics(TypedDict):
    """What `get_metrics` returns."""

    activeSessions: int
    """Sessions that live."""
    totalCreated: int
    """Sessions ever created on this log."""
    totalCleaned: int
    """Sessions that timed out or were deleted, ever."""
    oldestSession: int | None
    """Age in milliseconds of the oldest session that no clean-up has ended; `None` where there is none."""
    newestSession: int | None
    """Age in milliseconds of the newest of them."""


class Health(TypedDict):
    """What a health endpoint tells of sessions."""

    active: int
    total_created: int
    total_cleaned: int
    oldest_age_ms: int | None
    newest_age_ms: int | None


class Alert(NamedTuple):
    """One figure that is over its threshold."""

    kind: str
    """`active`, `age` or `churn`."""
    level: int
    """A level of `logging`."""
    text: str


def metrics_of(report: dict[str, Any], unannounced: int, now_ms: int) -> Metrics:
    """The metrics, from an engine's statistics and the number of sessions that are due and not announced yet."""
    ended: dict[str, int] = report["ended"]
    return {
        "activeSessions": report["live"] - unannounced,
        "totalCreated": report["created"],
        "totalCleaned": sum(ended.values()) - ended.get(REPLACED, 0),
        "oldestSession": _age_ms(report["oldest_created_at_ms"], now_ms),
        "newestSession": _age_ms(report["newest_created_at_ms"], now_ms),
    }


def _age_ms(created_at_ms: int | None, now_ms: int) -> int | None:
    # The log's clock may be ahead of ours by a little.
    return None if created_at_ms is None else max(now_ms - created_at_ms, 0)


def health_of(metrics: Metrics) -> Health:
    """The same figures under the names of the predecessor's health endpoint."""
    return {
        "active": metrics["activeSessions"],
        "total_created": metrics["totalCreated"],
        "total_cleaned": metrics["totalCleaned"],
        "oldest_age_ms": metrics["oldestSession"],
        "newest_age_ms": metrics["newestSession"],
    }


def alerts_of(metrics: Metrics, thresholds: Thresholds) -> list[Alert]:
    """Which figures are over their thresholds."""
    alerts = []
    if metrics["activeSessions"] > thresholds.active_sessions:
        text = f"[ALERT] High active session count: {metrics['activeSessions']}"
        alerts.append(Alert("active", logging.ERROR, text))
    oldest_ms = metrics["oldestSession"]
    if oldest_ms is not None and oldest_ms > thresholds.oldest_session_ms:
        text = f"[ALERT] Very old session detected: {oldest_ms // MINUTE_MS} minutes"
        alerts.append(Alert("age", logging.WARNING, text))
    created = metrics["totalCreated"]
    if created and metrics["totalCleaned"] / created > thresholds.cleaned_share:
        text = f"[ALERT] High session cleanup rate: {metrics['totalCleaned'] / created:.1%}"
        alerts.append(Alert("churn", logging.WARNING, text))
    return alerts


def metrics_line(metrics: Metrics) -> str:
    """The metrics as one log line."""
    created = metrics["totalCreated"]
    retained = metrics["activeSessions"] / created if created else 0.0
    return (
        f"[METRICS] Session stats: active={metrics['activeSessions']} created={created}"
        f" cleaned={metrics['totalCleaned']} retention_rate={retained:.1%}"
    )

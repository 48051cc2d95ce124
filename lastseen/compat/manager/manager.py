"""The session manager's drop-in: its calls, figures and log lines, on an engine.

    from lastseen.compat.manager import SessionManager

    manager = SessionManager(url="sqlite:///sessions.db")
    manager.create_session("conversation-1", "chat-1")

A conversation's id is the session's key; its chat and parent ids are attributes. What the predecessor did otherwise is
listed in docs/how-to/compat-manager.md. Give the manager a log of its own: its figures are those of the whole log.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self, TypedDict

from lastseen.compat.interval import Interval
from lastseen.compat.listing import every
from lastseen.compat.manager.limits import METRICS_INTERVAL_MS, PRODUCTION, Thresholds, checked_ms, preset
from lastseen.compat.manager.metrics import (
    REPLACED,
    Alert,
    Health,
    Metrics,
    alerts_of,
    health_of,
    metrics_line,
    metrics_of,
)
from lastseen.embedded.engine import Engine
from lastseen.embedded.opening import open_engine
from lastseen.engine.clock import Clock, SystemClock
from lastseen.engine.errors import (
    SessionEnded,
    SessionExists,
    SessionNotFound,
    SessionSuspended,
    StaleSession,
    VersionConflict,
)
from lastseen.engine.events import TIMED_REASONS
from lastseen.engine.session import Policy, SessionView

ATTEMPTS = 8
"""How often `create_session` looks again, where others create and delete under the same id."""
ID_CHARACTERS = 8
"""How much of an id a log line shows."""
DEFAULT_URL = "sqlite:///lastseen.db"
_GONE = (SessionNotFound, SessionEnded)
_CHANGED = (SessionExists, StaleSession, VersionConflict, *_GONE)
_logger = logging.getLogger("lastseen.compat.manager")


class Conversation(TypedDict):
    """A session as the predecessor showed it. Times are milliseconds since 1970-01-01 UTC."""

    chatId: str
    parentId: str | None
    createdAt: int
    lastAccessed: int


class AgedConversation(Conversation):
    """A session with the milliseconds since it was created."""

    age: int


class SessionManager:
    """Conversations that end when they have not been used for longer than a timeout. Safe to call from many threads."""

    def __init__(
        self,
        session_timeout_ms: int = PRODUCTION.session_timeout_ms,
        cleanup_interval_ms: int = PRODUCTION.cleanup_interval_ms,
        *,
        url: str = DEFAULT_URL,
        engine: Engine | None = None,
        clock: Clock | None = None,
        metrics_interval_ms: int | None = METRICS_INTERVAL_MS,
        thresholds: Thresholds | None = None,
    ) -> None:
        """Open the log at `url`, or use `engine`, which then stays open at the end and reads by the same `clock`.

        Metrics and alerts are logged every `metrics_interval_ms`; `None`: never. Raises `InvalidSetting`, and what
        `lastseen.open_engine` raises.
        """
        # It ends when more than the timeout has passed, and the engine's when as much has.
        self._policy = Policy(idle_ttl_ms=checked_ms("session_timeout_ms", session_timeout_ms) + 1)
        checked_ms("cleanup_interval_ms", cleanup_interval_ms)
        if metrics_interval_ms is not None:
            checked_ms("metrics_interval_ms", metrics_interval_ms)
        self.session_timeout_ms = session_timeout_ms
        self.cleanup_interval_ms = cleanup_interval_ms
        self.thresholds = thresholds or Thresholds()
        self._clock = clock or SystemClock()
        self._owns_engine = engine is None
        # The engine's own pruner would be there first, and `cleanup` have nothing to count.
        self.engine = open_engine(url, clock=self._clock, prune=False) if engine is None else engine
        self._cleaning = threading.Lock()
        self._closing = threading.Lock()
        self._is_shut = False
        self._intervals = [Interval(self._clock, cleanup_interval_ms, self.cleanup, "manager-cleanup")]
        if metrics_interval_ms is not None:
            self._intervals.append(Interval(self._clock, metrics_interval_ms, self.log_metrics, "manager-metrics"))

    @classmethod
    def of_preset(
        cls, name: str, *, url: str = DEFAULT_URL, engine: Engine | None = None, clock: Clock | None = None
    ) -> Self:
        """A manager with the limits of `development`, `production`, `high_traffic` or `long_conversations`."""
        return cls(*preset(name), url=url, engine=engine, clock=clock)

    # ── sessions ──

    def create_session(self, conversation_id: str, chat_id: str, parent_id: str | None = None) -> Conversation:
        """Begin a session; one that lives under this id is replaced. Raises `InvalidKey`, `InvalidEvent`."""
        attributes: dict[str, str] = {"chat_id": chat_id}
        if parent_id is not None:
            attributes["parent_id"] = parent_id
        session = _conversation(self._begin(conversation_id, attributes))
        _logger.info("[SESSION] Created: %s (total active: %d)", _short(conversation_id), self.get_session_count())
        return session

    def _begin(self, conversation_id: str, attributes: dict[str, str]) -> SessionView:
        for attempt in range(ATTEMPTS):
            live = self.engine.get(conversation_id)
            try:
                if live is None:
                    return self.engine.create(conversation_id, attributes=attributes, policy=self._policy)
                return self.engine.rotate(
                    conversation_id,
                    reason=REPLACED,
                    attributes=attributes,
                    policy=self._policy,
                    session_id=live.session_id,
                )
            except _CHANGED:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def get_session(self, conversation_id: str) -> Conversation | None:
        """The session, whose timeout restarts; `None` if there is none, or it has timed out."""
        try:
            view = self.engine.touch(conversation_id)
        except _GONE:
            return None
        except SessionSuspended:  # another process suspended it: it exists, and stays
            view = self.engine.get(conversation_id)
        return None if view is None else _conversation(view)

    def update_parent_id(self, conversation_id: str, parent_id: str | None) -> bool:
        """Remember the newest message's id; counts as activity. Whether the session is there."""
        try:
            self.engine.update(conversation_id, {"parent_id": parent_id})
        except _GONE:
            return False
        return True

    def delete_session(self, conversation_id: str) -> bool:
        """End a session. Whether it was there."""
        try:
            self.engine.close(conversation_id)
        except _GONE:
            return False
        _logger.info("[SESSION] Manually deleted session: %s", _short(conversation_id))
        return True

    def clear_all(self) -> int:
        """End every session; returns how many were there."""
        self.cleanup()
        cleared = 0
        for view in every(self.engine, "created"):
            try:
                self.engine.close(view.key, session_id=view.session_id)
            except (StaleSession, *_GONE):
                continue  # another process has ended it
            cleared += 1
        if cleared:
            _logger.info("[SESSION] Cleared: %d sessions", cleared)
        return cleared

    # ── looks: none of them is activity ──

    def get_session_info(self, conversation_id: str) -> AgedConversation | None:
        """The session and its age in milliseconds; `None` if there is none, or it has timed out."""
        view = self.engine.get(conversation_id)
        if view is None:
            return None
        return {**_conversation(view), "age": max(self._clock.now_ms() - view.created_at_ms, 0)}

    def get_all_sessions(self) -> list[tuple[str, Conversation]]:
        """Every live session with its id, oldest first. Costs a look at each."""
        return [(view.key, _conversation(view)) for view in every(self.engine, "created")]

    def get_session_count(self) -> int:
        """How many sessions live. Costs a look at those that are due, not at those that live."""
        return self.engine.count() - self._unannounced()

    def _unannounced(self) -> int:
        return sum(due.reason in TIMED_REASONS for due in self.engine.prune(dry_run=True).due)

    def get_oldest_session_age(self) -> int | None:
        """Milliseconds since the oldest session was created that no clean-up has ended; `None` where there is none."""
        return self.get_metrics()["oldestSession"]

    def get_newest_session_age(self) -> int | None:
        """The same for the newest."""
        return self.get_metrics()["newestSession"]

    # ── figures ──

    def get_metrics(self) -> Metrics:
        """How many sessions live, were created and were cleaned up, and their ages. Survives a restart, as they do."""
        unannounced = self._unannounced()
        return metrics_of(self.engine.statistics(), unannounced, self._clock.now_ms())

    def get_health(self) -> Health:
        """The metrics under the names of the predecessor's health endpoint."""
        return health_of(self.get_metrics())

    def get_alerts(self) -> list[Alert]:
        """Which metrics are over their thresholds; empty if all is well."""
        return alerts_of(self.get_metrics(), self.thresholds)

    def log_metrics(self) -> None:
        """Write the metrics to the log, and the alerts that follow from them. Runs by itself, every five minutes."""
        metrics = self.get_metrics()
        _logger.info("%s", metrics_line(metrics))
        for alert in alerts_of(metrics, self.thresholds):
            _logger.log(alert.level, "%s", alert.text)

    # ── the end of sessions, and of the manager ──

    def cleanup(self) -> int:
        """End every session that has timed out; returns how many. Costs what has timed out, not what lives.

        Runs by itself every `cleanup_interval_ms`.
        """
        with self._cleaning:
            now_ms = self._clock.now_ms()
            due = self.engine.prune().due
        for each in due:
            idle_s = (now_ms - each.deadline_ms + self.session_timeout_ms + 1) // 1000
            _logger.info("[SESSION] Expired: %s (inactive for %ds)", _short(each.key), idle_s)
        if due:
            remaining = self.engine.count()
            _logger.info("[SESSION] Cleanup: Removed %d expired sessions (%d remaining)", len(due), remaining)
        return len(due)

    def shutdown(self) -> None:
        """Stop cleaning up and logging, and close the engine if the manager opened it. May be called again."""
        with self._closing:
            if self._is_shut:
                return
            self._is_shut = True
        for interval in self._intervals:
            interval.stop()
        if self._owns_engine:
            self.engine.shutdown()
        _logger.info("[SESSION] Shutdown: Cleanup interval cleared")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()


def _conversation(view: SessionView) -> Conversation:
    return {
        "chatId": view.attributes.get("chat_id", ""),
        "parentId": view.attributes.get("parent_id"),
        "createdAt": view.created_at_ms,
        "lastAccessed": view.last_active_at_ms,
    }


def _short(conversation_id: str) -> str:
    return conversation_id[:ID_CHARACTERS]

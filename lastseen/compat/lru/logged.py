"""Sessions on an engine: each use is an event in its log. They outlive the process, and other processes see them.

A value stands in the attribute `value`, in a list of one: a merge patch (RFC 7396) replaces lists as a whole and would
join objects. Messages are the session's own, each as `[set, message]`, where `set` names the list that it belongs to;
the attribute `messages` says which list counts. So a list is replaced, or forgotten, by one event.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from lastseen.compat.listing import every
from lastseen.compat.lru.limits import LruLimits
from lastseen.compat.lru.store import REASONS, Found
from lastseen.embedded.engine import Engine
from lastseen.engine.clock import Clock
from lastseen.engine.codec import check_key
from lastseen.engine.errors import (
    InvalidKey,
    Refused,
    SessionEnded,
    SessionExists,
    SessionNotFound,
    SessionSuspended,
    StaleSession,
    VersionConflict,
)
from lastseen.engine.events import TIMED_REASONS
from lastseen.engine.identifiers import new_session_id
from lastseen.engine.session import Policy, SessionView, Status

ATTEMPTS = 8
"""How often a call looks again where others change the same session."""
VALUE, MESSAGES = "value", "messages"
_GONE = (SessionNotFound, SessionEnded)
_CHANGED = (SessionExists, StaleSession, VersionConflict, *_GONE)
_copy = msgspec.to_builtins


class LoggedSessions:
    """Sessions of an engine that was opened with the same `max_sessions`, and without its own pruner."""

    def __init__(self, engine: Engine, limits: LruLimits, clock: Clock) -> None:
        self.engine = engine
        self._max_sessions = limits.max_sessions
        self._session_ttl_ms = limits.session_ttl_ms
        self._max_messages = limits.max_messages_per_session
        self._policy = Policy(
            idle_ttl_ms=limits.inactive_ttl_ms, max_age_ms=limits.session_ttl_ms, max_messages=self._max_messages
        )
        self._clock = clock

    # ── `lru_store.Store` ──

    def read(self, key: str) -> Found | None:
        """The session, untouched."""
        view = self._peek(key)
        return None if view is None else Found(_value(view))

    def use(self, key: str) -> Found | None:
        """The session, which is the most recently used from now on."""
        view: SessionView | None
        try:
            view = self.engine.touch(key)
        except (InvalidKey, *_GONE):
            return None
        except SessionSuspended:  # another process suspended it: it exists, and cannot be used
            view = self._peek(key)
        return None if view is None else Found(_value(view))

    def put(self, key: str, value: Any) -> None:
        """Set a session's value. Raises `InvalidKey`, and `InvalidEvent` for what is no JSON or takes over 16 KiB."""
        check_key(key)
        for attempt in range(ATTEMPTS):
            live = self.engine.get(key)
            try:
                if live is None:
                    self.engine.create(key, attributes={VALUE: [value]}, policy=self._policy)
                    if self.engine.count() > self._max_sessions:
                        self.engine.prune()
                else:
                    self._restart(live, value)
                return
            except _CHANGED:
                if attempt == ATTEMPTS - 1:
                    raise

    def _restart(self, live: SessionView, value: Any) -> None:
        """Set the value of a live session: both of its clocks begin again."""
        if live.status is Status.SUSPENDED:
            with suppress(Refused):  # another process may have resumed it
                self.engine.resume(live.key, session_id=live.session_id)
        policy = self._policy
        if self._session_ttl_ms is not None:
            # A session's age counts from its creation, so the limit moves.
            age_ms = max(self._clock.now_ms() - live.created_at_ms, 0)
            policy = replace(policy, max_age_ms=age_ms + self._session_ttl_ms)
        self.engine.touch(
            live.key,
            attributes={VALUE: [value]},
            policy=None if policy == live.policy else policy,
            session_id=live.session_id,
        )

    def drop(self, key: str) -> bool:
        """Remove a session; whether it was there."""
        try:
            self.engine.close(key)
        except (InvalidKey, *_GONE):
            return False
        return True

    def items(self) -> list[tuple[str, Any]]:
        """Every session, least recently used first, untouched."""
        return [(view.key, _value(view)) for view in every(self.engine, "lru")]

    def count(self) -> int:
        """How many are there. Those that are due and not announced yet are looked at, the others are not."""
        due = self.engine.prune(dry_run=True).due
        return self.engine.count() - sum(each.reason in TIMED_REASONS for each in due)

    def messages(self, key: str) -> list[Any] | None:
        """The session's newest messages, oldest first, untouched; `None` if it is not there, or none were ever set."""
        view = self._peek(key)
        current = None if view is None else view.attributes.get(MESSAGES)
        if current is None:
            return None
        pairs = [message.value for message in self.engine.messages(key)]
        return [pair[1] for pair in pairs if isinstance(pair, list) and len(pair) == 2 and pair[0] == current]

    def add_message(self, key: str, message: Any) -> bool:
        """Add one message; whether the session is there. Raises `InvalidEvent` for what is no JSON or over 64 KiB."""
        for attempt in range(ATTEMPTS):
            view = self._peek(key)
            if view is None:
                return False
            current = view.attributes.get(MESSAGES)
            begins = current is None
            mark = new_session_id() if begins else current
            try:
                self.engine.touch(
                    key,
                    message=[mark, message],
                    attributes={MESSAGES: mark} if begins else None,
                    session_id=view.session_id,
                    # Two that begin a list at once must not both do so.
                    if_version=view.version if begins else None,
                )
            except _CHANGED:
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            return True
        raise AssertionError

    def put_messages(self, key: str, messages: Sequence[Any] | None) -> bool:
        """Replace the messages, or forget them; whether the session is there. Costs an event for each message."""
        view = self._peek(key)
        if view is None:
            return False
        mark = None if messages is None else new_session_id()
        kept = list(messages or ())[-self._max_messages :]
        try:
            for message in kept[:-1]:
                self.engine.touch(key, message=[mark, message], session_id=view.session_id)
            # The last one makes the new list count; until then readers see what is left of the old.
            last = [mark, kept[-1]] if kept else None
            self.engine.touch(key, message=last, attributes={MESSAGES: mark}, session_id=view.session_id)
        except (StaleSession, *_GONE):
            return False
        return True

    def with_messages(self) -> list[str]:
        """The sessions whose messages were set, least recently used first."""
        return [view.key for view in every(self.engine, "lru") if view.attributes.get(MESSAGES) is not None]

    def sweep(self) -> int:
        """Remove what is over or too much; returns how many."""
        return len(self.engine.prune().due)

    def relieve(self, count: int) -> int:
        """Remove so many, least recently used first; suspended and held ones stay. Costs a look at each session."""
        gone = 0
        for view in every(self.engine, "lru"):
            if gone == count:
                break
            if view.status is Status.ACTIVE and not view.holders:
                with suppress(Refused):  # used or ended meanwhile
                    self.engine.close(view.key, reason="memory", session_id=view.session_id, if_version=view.version)
                    gone += 1
        return gone

    def evictions(self) -> dict[str, int]:
        """How many sessions went, by cause, since the log began."""
        ended = self.engine.statistics()["ended"]
        return {cause: ended.get(reason, 0) for cause, reason in REASONS.items()}

    def close(self) -> None:
        """Shut the engine down."""
        self.engine.shutdown()

    def _peek(self, key: str) -> SessionView | None:
        try:
            return self.engine.get(key)
        except InvalidKey:
            return None


def _value(view: SessionView) -> Any:
    # A copy: what a caller changes in it must not change what the engine shows others.
    held = view.attributes.get(VALUE)
    return _copy(held[0]) if isinstance(held, list) and held else None

"""The LRU memory's drop-in beside a naive model of what the predecessor was documented to do, in memory and on a log.

The model keeps a list and scans it. Where the predecessor was wrong, the model is right: docs/how-to/compat-lru.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import lastseen
from lastseen import ManualClock
from lastseen.compat.lru import LruSessions, lru
from lastseen.compat.lru.limits import LruLimits
from lastseen.compat.lru.logged import LoggedSessions
from lastseen.engine.clock import Clock

T0 = 1_700_000_000_000
SESSION_TTL_MS, INACTIVE_TTL_MS = 10_000, 4_000
MAX_SESSIONS, MAX_MESSAGES = 3, 2
ROOMY, CRAMPED = 2**50, 1
"""Memory limits: hardly used, and far exceeded."""
keys = st.sampled_from(["a", "b", "c", "d", "e"])
values = st.sampled_from([None, 1, "text", {"a": 1}, {"b": {"c": [1, None]}}, [1], []])
messages = st.sampled_from([None, 0, "hello", {"role": "user"}, ["x", 1]])
lists = st.lists(messages, max_size=4)
TURNS = st.sampled_from([1, 1_000, INACTIVE_TTL_MS - 1, INACTIVE_TTL_MS, 3_000])


class NaiveSessions:
    """Sessions in a list, least recently used first."""

    def __init__(self) -> None:
        self.now = T0
        self.sessions: list[dict[str, Any]] = []
        self.evictions = {"capacity": 0, "memory": 0, "session_ttl": 0, "inactive_ttl": 0}
        self.hits = self.misses = 0

    def due(self, session: dict[str, Any]) -> tuple[int, str]:
        by_age = (session["started"] + SESSION_TTL_MS, "session_ttl")
        by_use = (session["used"] + INACTIVE_TTL_MS, "inactive_ttl")
        return by_age if by_age[0] <= by_use[0] else by_use

    def live(self) -> list[dict[str, Any]]:
        return [session for session in self.sessions if self.due(session)[0] > self.now]

    def find(self, key: str) -> dict[str, Any] | None:
        return next((session for session in self.live() if session["key"] == key), None)

    def use(self, key: str) -> dict[str, Any] | None:
        session = self.find(key)
        if session is not None:
            session["used"] = self.now
            self.sessions.remove(session)
            self.sessions.append(session)
        return session

    def get(self, key: str) -> dict[str, Any] | None:
        session = self.use(key)
        self.count(session is not None)
        return session

    def count(self, is_hit: bool) -> None:
        self.hits, self.misses = self.hits + is_hit, self.misses + (not is_hit)

    def put(self, key: str, value: Any) -> None:
        session = self.use(key)
        if session is None:
            for over in [each for each in self.sessions if each["key"] == key]:
                self.end(over, self.due(over)[1])
            session = {"key": key, "used": self.now, "messages": None}
            self.sessions.append(session)
        session |= {"value": value, "started": self.now}
        if len(self.sessions) > MAX_SESSIONS:
            self.sweep()

    def end(self, session: dict[str, Any], cause: str) -> None:
        self.sessions.remove(session)
        self.evictions[cause] += 1

    def sweep(self) -> int:
        before = len(self.sessions)
        for session in [each for each in self.sessions if self.due(each)[0] <= self.now]:
            self.end(session, self.due(session)[1])
        while len(self.sessions) > MAX_SESSIONS:
            self.end(self.sessions[0], "capacity")
        return before - len(self.sessions)

    def relieve(self) -> int:
        """A quarter of them, rounded up."""
        gone = (len(self.sessions) + 3) // 4
        for _ in range(gone):
            self.end(self.sessions[0], "memory")
        return gone


class SessionsAgainstNaive(RuleBasedStateMachine):
    """Any operations in any order."""

    url: Callable[[Path], str]

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock(T0)
        self.model = NaiveSessions()
        self.sessions = self.opened()

    def opened(self) -> LruSessions:
        return LruSessions(
            MAX_SESSIONS,
            MAX_MESSAGES,
            SESSION_TTL_MS,
            INACTIVE_TTL_MS,
            10**15,
            url=type(self).url(Path(self.folder.name)),
            clock=self.clock,
            max_memory_bytes=ROOMY,
        )

    def teardown(self) -> None:
        if hasattr(self, "sessions"):
            self.sessions.shutdown()
            self.folder.cleanup()

    @rule(key=keys, value=values)
    def put(self, key: str, value: Any) -> None:
        self.sessions[key] = value
        self.model.put(key, value)

    @rule(key=keys, value=values)
    def put_more(self, key: str, value: Any) -> None:
        self.put(key, value)

    @rule(key=keys)
    def get(self, key: str) -> None:
        session = self.model.get(key)
        assert self.sessions.get(key, "none") == ("none" if session is None else session["value"])

    @rule(key=keys)
    def delete(self, key: str) -> None:
        session = self.model.find(key)
        try:
            del self.sessions[key]
            assert session is not None
            self.model.sessions.remove(session)
        except KeyError:
            assert session is None

    @rule(key=keys)
    def pop(self, key: str) -> None:
        session = self.model.find(key)
        self.model.count(session is not None)
        assert self.sessions.pop(key, "none") == ("none" if session is None else session["value"])
        if session is not None:
            self.model.sessions.remove(session)

    @rule(key=keys, message=messages)
    def append(self, key: str, message: Any) -> None:
        session = self.model.use(key)
        try:
            self.sessions.messages.append(key, message)
            assert session is not None
            session["messages"] = ((session["messages"] or []) + [message])[-MAX_MESSAGES:]
        except KeyError:
            assert session is None

    @rule(key=keys, given=lists)
    def set_messages(self, key: str, given: list[Any]) -> None:
        session = self.model.use(key)
        try:
            self.sessions.messages[key] = given
            assert session is not None
            session["messages"] = given[-MAX_MESSAGES:]
        except KeyError:
            assert session is None

    @rule(key=keys)
    def get_messages(self, key: str) -> None:
        session = self.model.find(key)
        found = None if session is None else session["messages"]
        if found is not None:
            self.model.use(key)
        self.model.count(found is not None)
        assert self.sessions.messages.get(key) == found

    @rule(key=keys)
    def delete_messages(self, key: str) -> None:
        session = self.model.find(key)
        try:
            del self.sessions.messages[key]
            assert session is not None
            assert session["messages"] is not None
            self.model.use(key)
            session["messages"] = None
        except KeyError:
            assert session is None or session["messages"] is None

    @rule(is_short=st.booleans())
    def cleanup(self, is_short: bool) -> None:
        self.sessions._pressure.limit_bytes = CRAMPED if is_short else ROOMY
        wanted = self.model.sweep() + (self.model.relieve() if is_short else 0)
        assert self.sessions.cleanup() == wanted

    @rule(by_ms=TURNS)
    def turn_the_clock(self, by_ms: int) -> None:
        self.model.now = self.clock.advance(by_ms)

    @rule(by_ms=TURNS)
    def turn_the_clock_more(self, by_ms: int) -> None:
        self.turn_the_clock(by_ms)

    @invariant()
    def shows_the_same(self) -> None:
        if not hasattr(self, "sessions"):
            return
        live = self.model.live()
        wanted = {session["key"]: session["value"] for session in live}
        assert list(self.sessions.items()) == list(wanted.items()), "least recently used first"
        assert list(self.sessions) == list(wanted)
        assert list(self.sessions.values()) == list(wanted.values())
        assert len(self.sessions) == len(wanted)
        reported = {session["key"]: session["messages"] for session in live if session["messages"] is not None}
        assert list(self.sessions.messages.items()) == list(reported.items())
        assert len(self.sessions.messages) == len(reported)
        for key in "abcde":
            assert (key in self.sessions) is (key in wanted)
            assert (key in self.sessions.messages) is (key in reported)
            assert self.sessions.peek(key, "none") == wanted.get(key, "none")
            assert self.sessions.messages.peek(key, "none") == reported.get(key, "none")
        figures = self.sessions.statistics()
        assert (figures["hits"], figures["misses"]) == (self.model.hits, self.model.misses)
        assert figures["evictions"] == self.model.evictions


class OnAnEngine(SessionsAgainstNaive):
    """All that a log does, but the disk: so more of it can be tried."""

    url = staticmethod(lambda folder: "memory://")

    def opened(self) -> LruSessions:
        def store(url: str, limits: LruLimits, clock: Clock) -> LoggedSessions:
            engine = lastseen.open_engine(url, clock=clock, max_sessions=limits.max_sessions, background=False)
            return LoggedSessions(engine, limits, clock)

        with patch.object(lru, "_opened", store):
            return super().opened()


class InMemory(SessionsAgainstNaive):
    url = staticmethod(lambda folder: "memory://")


class OnALog(SessionsAgainstNaive):
    """Here the process may also end, and another one go on."""

    url = staticmethod(lambda folder: f"sqlite:///{folder / 'sessions.db'}")

    @rule()
    def restart(self) -> None:
        self.sessions.shutdown()
        self.sessions = self.opened()
        self.model.hits = self.model.misses = 0


OnAnEngine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
test_sessions_on_an_engine_are_as_the_naive_ones = OnAnEngine.TestCase
InMemory.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
test_sessions_in_memory_are_as_the_naive_ones = InMemory.TestCase
OnALog.TestCase.settings = settings(max_examples=8, stateful_step_count=40)
test_sessions_on_a_log_are_as_the_naive_ones = OnALog.TestCase

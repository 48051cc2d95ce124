"""The session manager's drop-in beside a naive model of what the predecessor's guide says of it.

The model keeps a map and scans it, as the predecessor did. Where the drop-in differs on purpose, the model says so with
a method named `difference_...`; docs/how-to/compat-manager.md lists the same names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import lastseen
from lastseen import ManualClock
from lastseen.compat.manager import SessionManager

T0 = 1_700_000_000_000
TIMEOUT_MS = 300_000
FAR_MS = 10**15
ids = st.sampled_from(["conv-1", "conv-2", "conv-3"])
texts = st.sampled_from(["a", "b"])
TURNS = st.sampled_from([1, 1_000, 100_000, TIMEOUT_MS - 1, TIMEOUT_MS, TIMEOUT_MS + 1])


class NaiveManager:
    """A map from conversation ids to sessions."""

    def __init__(self) -> None:
        self.now = T0
        self.sessions: dict[str, dict[str, Any]] = {}
        self.created = self.cleaned = 0

    def is_over(self, session: dict[str, Any]) -> bool:
        return self.now - session["lastAccessed"] > TIMEOUT_MS

    def find(self, conversation_id: str) -> dict[str, Any] | None:
        session = self.sessions.get(conversation_id)
        return None if session is None or self.is_over(session) else session

    def create(self, conversation_id: str, chat_id: str, parent_id: str | None) -> None:
        self.difference_timed_out_sessions_count_as_cleaned_when_their_id_is_used_again(conversation_id)
        self.created += 1
        self.sessions.pop(conversation_id, None)
        self.sessions[conversation_id] = {
            "chatId": chat_id,
            "parentId": parent_id,
            "createdAt": self.now,
            "lastAccessed": self.now,
        }

    def difference_timed_out_sessions_count_as_cleaned_when_their_id_is_used_again(self, conversation_id: str) -> None:
        if conversation_id in self.sessions and self.is_over(self.sessions[conversation_id]):
            self.cleaned += 1

    def touch(self, conversation_id: str) -> dict[str, Any] | None:
        session = self.find(conversation_id)
        if session is not None:
            session["lastAccessed"] = self.now
        return session

    def delete(self, conversation_id: str) -> bool:
        if self.find(conversation_id) is None:
            # A session that has timed out is left for the clean-up.
            return False
        del self.sessions[conversation_id]
        self.cleaned += 1
        return True

    def cleanup(self) -> int:
        over = [each for each, session in self.sessions.items() if self.is_over(session)]
        for each in over:
            del self.sessions[each]
        self.cleaned += len(over)
        return len(over)

    def live(self) -> list[tuple[str, dict[str, Any]]]:
        """`difference_timed_out_sessions_are_gone_at_once`: the predecessor showed them until the next clean-up."""
        return [(each, session) for each, session in self.sessions.items() if not self.is_over(session)]

    def difference_timed_out_sessions_are_gone_at_once(self) -> int:
        return len(self.live())

    def metrics(self) -> dict[str, int | None]:
        ages = [self.now - session["createdAt"] for session in self.sessions.values()]
        return {
            "activeSessions": self.difference_timed_out_sessions_are_gone_at_once(),
            "totalCreated": self.created,
            "totalCleaned": self.cleaned,
            "oldestSession": max(ages, default=None),
            "newestSession": min(ages, default=None),
        }


class ManagerAgainstNaive(RuleBasedStateMachine):
    """Any calls in any order, on one partition or several."""

    @initialize(partitions=st.sampled_from([1, 3]))
    def begin(self, partitions: int) -> None:
        self.clock = ManualClock(T0)
        self.engine = lastseen.open_engine("memory://", clock=self.clock, background=False, partitions=partitions)
        self.manager = SessionManager(
            TIMEOUT_MS, FAR_MS, engine=self.engine, clock=self.clock, metrics_interval_ms=None
        )
        self.model = NaiveManager()

    def teardown(self) -> None:
        if hasattr(self, "manager"):
            self.manager.shutdown()
            self.engine.shutdown()

    @rule(conversation_id=ids, chat_id=texts, parent_id=st.none() | texts)
    def create_session(self, conversation_id: str, chat_id: str, parent_id: str | None) -> None:
        made = self.manager.create_session(conversation_id, chat_id, parent_id)
        self.model.create(conversation_id, chat_id, parent_id)
        assert made == self.model.sessions[conversation_id]

    @rule(conversation_id=ids, by_ms=TURNS)
    def get_session_later(self, conversation_id: str, by_ms: int) -> None:
        self.turn_the_clock_by(by_ms)
        assert self.manager.get_session(conversation_id) == self.model.touch(conversation_id)

    @rule(conversation_id=ids)
    def get_session(self, conversation_id: str) -> None:
        assert self.manager.get_session(conversation_id) == self.model.touch(conversation_id)

    @rule(conversation_id=ids, parent_id=st.none() | texts)
    def update_parent_id(self, conversation_id: str, parent_id: str | None) -> None:
        session = self.model.touch(conversation_id)
        assert self.manager.update_parent_id(conversation_id, parent_id) is (session is not None)
        if session is not None:
            session["parentId"] = parent_id

    @rule(conversation_id=ids)
    def delete_session(self, conversation_id: str) -> None:
        assert self.manager.delete_session(conversation_id) is self.model.delete(conversation_id)

    @rule()
    def cleanup(self) -> None:
        assert self.manager.cleanup() == self.model.cleanup()

    @rule()
    def clear_all(self) -> None:
        self.model.cleanup()
        live = list(self.model.sessions)
        assert self.manager.clear_all() == sum(self.model.delete(each) for each in live)

    @rule(by_ms=TURNS)
    def turn_the_clock(self, by_ms: int) -> None:
        self.turn_the_clock_by(by_ms)

    @rule(by_ms=TURNS)
    def turn_the_clock_more(self, by_ms: int) -> None:
        self.turn_the_clock_by(by_ms)

    def turn_the_clock_by(self, by_ms: int) -> None:
        self.model.now = self.clock.advance(by_ms)

    @invariant()
    def shows_the_same(self) -> None:
        if not hasattr(self, "manager"):
            return
        live = self.model.live()
        shown = self.manager.get_all_sessions()
        assert sorted(shown, key=lambda pair: pair[0]) == sorted(live, key=lambda pair: pair[0])
        assert [s["createdAt"] for _, s in shown] == sorted(s["createdAt"] for _, s in live), "oldest first"
        assert self.manager.get_session_count() == len(live)
        assert self.manager.get_metrics() == self.model.metrics()
        for conversation_id in ("conv-1", "conv-2", "conv-3"):
            session = self.model.find(conversation_id)
            wanted = None if session is None else {**session, "age": self.model.now - session["createdAt"]}
            assert self.manager.get_session_info(conversation_id) == wanted


ManagerAgainstNaive.TestCase.settings = settings(max_examples=120, stateful_step_count=40)
test_the_manager_does_what_the_naive_one_does = ManagerAgainstNaive.TestCase


def test_the_page_lists_every_difference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "compat-manager.md").read_text(encoding="utf-8")
    differences = {name.removeprefix("difference_") for name in vars(NaiveManager) if name.startswith("difference_")}
    tests = (Path(__file__).with_name("test_manager.py")).read_text(encoding="utf-8")
    differences |= set(re.findall(r"def test_difference_(\w+)", tests))
    assert differences
    assert set(re.findall(r"^- `(\w+)`", page, re.MULTILINE)) == differences

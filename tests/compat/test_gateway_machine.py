"""Whatever the calls, the store answers as the old one's documentation has it, differences aside."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from gateway_stage import DAY, MIN, T0, source
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from naive_gateway import NaiveEntry, NaivePolicy, NaiveStore

import lastseen
from lastseen.compat.gateway import GatewayConfig, SessionEntry, SessionResetPolicy, SessionStore
from lastseen.compat.gateway.times import ms_of

CHATS = st.sampled_from("abc")
STEPS = st.sampled_from([1, MIN, 59 * MIN, 60 * MIN, 60 * MIN + 1, 8 * 60 * MIN, DAY, 3 * DAY, 10 * DAY])


class Gateway(RuleBasedStateMachine):
    """The store beside its naive model."""

    @initialize(
        mode=st.sampled_from(["idle", "daily", "both", "none"]), at_hour=st.sampled_from([0, 4, 23]),
        idle=st.sampled_from([60, 1440]), suspend_days=st.sampled_from([3, 30]),
    )  # fmt: skip
    def begin(self, mode: str, at_hour: int, idle: int, suspend_days: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lastseen-gateway-"))
        self.clock = lastseen.ManualClock(T0)
        self.engine = lastseen.open_engine("memory://", clock=self.clock, background=False)
        self.config = GatewayConfig(
            default_reset_policy=SessionResetPolicy(mode, at_hour, idle),
            session_store_suspended_max_age_days=suspend_days,
        )
        self.naive = NaiveStore(NaivePolicy(mode, at_hour, idle), suspend_days)
        self.open()
        self.names: dict[int, str] = {}
        """Conversation of the model → that of the store."""
        self.kept: list[tuple[SessionEntry, NaiveEntry]] = []

    def open(self) -> None:
        self.store = SessionStore(
            self.folder, self.config, self.is_busy, engine=self.engine, clock=self.clock, sessions_json=False
        )

    def is_busy(self, key: str) -> bool:
        if key in self.naive.unsure:
            raise RuntimeError("unknown")
        return key in self.naive.busy

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.shutdown()
            shutil.rmtree(self.folder)

    def now(self) -> int:
        now_ms = self.clock.now_ms()
        self.naive.settle(now_ms)
        return now_ms

    @staticmethod
    def key(chat: str) -> str:
        return f"agent:main:telegram:dm:{chat}"

    def check(self, entry: SessionEntry | None, naive: NaiveEntry | None) -> None:
        assert (entry is None) == (naive is None)
        if entry is None or naive is None:
            return
        assert self.names.setdefault(naive.conversation, entry.session_id) == entry.session_id
        assert len(set(self.names.values())) == len(self.names), "two conversations have one id"
        shown = (
            ms_of(entry.created_at), ms_of(entry.updated_at), entry.display_name, entry.last_prompt_tokens,
            entry.suspended, entry.resume_pending, entry.expiry_finalized, entry.is_fresh_reset,
        )  # fmt: skip
        assert shown == (
            naive.created_ms, naive.updated_ms, naive.name, naive.tokens, naive.suspended_ms is not None,
            naive.is_pending, naive.is_finalized, naive.is_fresh,
        )  # fmt: skip

    @rule(by=STEPS)
    def time_passes(self, by: int) -> None:
        self.clock.advance(by)

    @rule(chat=CHATS, force_new=st.sampled_from([False, False, False, True]), name=st.sampled_from(["x", "y"]))
    def a_message_comes(self, chat: str, force_new: bool, name: str) -> None:
        naive, reason, had_activity = self.naive.message(self.key(chat), name, self.now(), force_new)
        entry = self.store.get_or_create_session(source(chat, chat_name=name), force_new)
        self.check(entry, naive)
        assert (entry.was_auto_reset, entry.auto_reset_reason) == (reason is not None, reason)
        assert entry.reset_had_activity == had_activity
        self.kept.append((entry, naive))

    @rule(chat=CHATS, tokens=st.none() | st.integers(0, 9))
    def a_turn_ends(self, chat: str, tokens: int | None) -> None:
        self.naive.update(self.key(chat), tokens, self.now())
        self.store.update_session(self.key(chat), tokens)

    @rule(chat=CHATS)
    def something_is_said(self, chat: str) -> None:
        self.now()
        naive = self.naive.entries.get(self.key(chat))
        if naive is not None:
            self.store.append_to_transcript(self.names[naive.conversation], {"content": "hi"})
            for entry in self.naive.entries.values():
                entry.said = entry.said or entry.conversation == naive.conversation

    @rule(chat=CHATS, name=st.sampled_from([None, "z"]))
    def the_user_resets(self, chat: str, name: str | None) -> None:
        naive = self.naive.reset(self.key(chat), self.now(), name)
        self.check(self.store.reset_session(self.key(chat), name), naive)

    @precondition(lambda self: self.names)
    @rule(chat=CHATS, which=st.integers(0, 99))
    def the_user_switches(self, chat: str, which: int) -> None:
        conversation = sorted(self.names)[which % len(self.names)]
        naive = self.naive.switch(self.key(chat), conversation, self.now())
        if naive is not None:
            naive.said = bool(self.store.load_transcript(self.names[conversation]))
        self.check(self.store.switch_session(self.key(chat), self.names[conversation]), naive)

    @rule(chat=CHATS)
    def it_is_suspended(self, chat: str) -> None:
        assert self.store.suspend_session(self.key(chat)) == self.naive.suspend(self.key(chat), self.now())

    @rule(chat=CHATS)
    def it_is_resumed(self, chat: str) -> None:
        assert self.store.resume_session(self.key(chat)) == self.naive.resume(self.key(chat), self.now())

    @rule(chat=CHATS, is_pending=st.booleans())
    def it_is_marked(self, chat: str, is_pending: bool) -> None:
        mark = self.store.mark_resume_pending if is_pending else self.store.clear_resume_pending
        assert mark(self.key(chat)) == self.naive.mark(self.key(chat), is_pending, self.now())

    @precondition(lambda self: self.kept)
    @rule(which=st.integers(0, 99))
    def an_entry_is_saved_late(self, which: int) -> None:
        entry, naive = self.kept.pop(which % len(self.kept))
        entry.expiry_finalized = True
        if naive.is_finalized:  # it was read as final, so nothing has been changed
            return
        expected = self.naive.finalize(entry.session_key, naive.life, self.now())
        assert self.store.save_entry(entry) == expected

    @rule(chat=CHATS, what=st.sampled_from(["busy", "unsure", "idle"]))
    def a_process_starts_or_ends(self, chat: str, what: str) -> None:
        for name, keys in (("busy", self.naive.busy), ("unsure", self.naive.unsure)):
            (keys.add if name == what else keys.discard)(self.key(chat))

    @rule(days=st.sampled_from([0, 1, 3, 10]))
    def it_is_pruned(self, days: int) -> None:
        end = self.engine._log.end_offsets()
        pruned = self.naive.prune(days, self.now())
        assert self.store.prune_old_entries(days) == pruned
        assert (self.engine._log.end_offsets() == end) == (pruned == 0)

    @rule()
    def the_gateway_restarts(self) -> None:
        self.open()

    @rule(minutes=st.sampled_from([None, 0, 60, 1440]))
    def they_are_listed(self, minutes: int | None) -> None:
        now_ms = self.now()
        expected = {
            key: entry
            for key, entry in self.naive.entries.items()
            if minutes is None or entry.updated_ms >= now_ms - minutes * MIN
        }
        listed = self.store.list_sessions(minutes)
        assert {entry.session_key for entry in listed} == set(expected)
        assert [ms_of(entry.updated_at) for entry in listed] == sorted(
            (entry.updated_ms for entry in expected.values()), reverse=True
        )

    @invariant()
    def all_is_as_the_model_has_it(self) -> None:
        if not hasattr(self, "naive"):
            return
        self.now()
        entries: dict[str, Any] = dict(self.store._entries)
        assert set(entries) == set(self.naive.entries)
        for key, naive in self.naive.entries.items():
            self.check(entries[key], naive)
        assert self.store.has_any_sessions() == (self.naive.begun > 1)


TestGateway = Gateway.TestCase
TestGateway.settings = settings(max_examples=60, stateful_step_count=40)

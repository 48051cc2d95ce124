"""The whole engine beside a naive one: any commands in any order, through two engines on one file, with restarts."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from naive_engine import NaiveEngine
from stage import MIN, S, Stage

from lastseen import Engine, LastseenError, policy

KEYS = [f"key-{number}" for number in range(6)]
POLICIES = [
    policy(idle_ttl="30m"),
    policy(idle_ttl="5m", max_age="20m", max_messages=2, max_hold="4m"),
    policy(suspend_ttl="10m", max_messages=None),
    policy(idle_ttl="10m", touch_precision="1m", suspend_ttl="3m"),
]
MAX_SESSIONS = 4
keys = st.sampled_from(KEYS)
policies = st.sampled_from(POLICIES)
attributes = st.dictionaries(
    st.sampled_from(["owner", "n", "text"]), st.sampled_from(["ana", "bob", 7, "x" * 400]), max_size=2
)
patches = st.dictionaries(st.sampled_from(["owner", "n", "text"]), st.sampled_from([None, "ana", "bob", 8]), max_size=2)
messages = st.one_of(st.none(), st.integers(0, 9), st.just("y" * 300), st.just({"deep": [1]}))

TURNS = st.sampled_from([1, 999, 30 * S, MIN, 3 * MIN, 5 * MIN, 10 * MIN - 1, 30 * MIN])


class EngineAgainstNaive(RuleBasedStateMachine):
    """Two engines on one log, of which the first is also killed and started again; and the model."""

    @initialize(partitions=st.sampled_from([1, 2]), limits=st.lists(policies, max_size=len(KEYS)))
    def begin(self, partitions: int, limits: list[Any]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.stage = Stage(Path(self.folder.name), partitions=partitions)
        self.engine = self.stage.open(max_sessions=MAX_SESSIONS)
        self.other = self.stage.open(snapshot=":memory:", max_body_bytes=1)
        self.model = NaiveEngine(self.stage.clock.now_ms())
        for key, limit in zip(KEYS, limits, strict=False):
            self.open(key, {"owner": "ana"}, limit, by_other=False)

    def teardown(self) -> None:
        if hasattr(self, "stage"):
            for moment, there in self.model.past.items():
                self.compare_past(moment, there)
            self.stage.end()
            self.folder.cleanup()

    def caller(self, by_other: bool) -> Engine:
        """One of the two, that has read all."""
        engine = self.other if by_other else self.engine
        engine.refresh()
        return engine

    def same(self, answer: str | None, call: Any) -> Any:
        """The engine answers as the model does."""
        done, refused = None, None
        try:
            done = call()
        except LastseenError as error:
            refused = type(error).__name__
        assert refused == answer
        return done

    # ── commands ──

    @rule(key=keys, given=attributes, limits=policies, by_other=st.booleans())
    def open(self, key: str, given: dict[str, Any], limits: Any, by_other: bool) -> None:
        session = self.caller(by_other).open(key, attributes=given, policy=limits)
        wanted = self.model.open(key, session.session_id, given, limits, session.partition)
        assert session.session_id == wanted.session_id

    @rule(key=keys, by_other=st.booleans())
    def touch(self, key: str, by_other: bool) -> None:
        engine = self.caller(by_other)
        self.same(self.model.touch(key), lambda: engine.touch(key))

    @rule(key=keys, patch=st.none() | patches, message=messages, limits=st.none() | policies, by_other=st.booleans())
    def touch_with(self, key: str, patch: Any, message: Any, limits: Any, by_other: bool) -> None:
        engine = self.caller(by_other)
        answer = self.model.touch(key, patch, message, limits)
        self.same(answer, lambda: engine.touch(key, attributes=patch, message=message, policy=limits))

    @rule(many=st.lists(keys, max_size=5, unique=True), by_other=st.booleans())
    def touch_many(self, many: list[str], by_other: bool) -> None:
        answers = self.caller(by_other).touch_many(many)
        wanted = [self.model.touch(key) for key in many]
        assert [type(a).__name__ if isinstance(a, LastseenError) else None for a in answers] == wanted

    @rule(key=keys, by_other=st.booleans())
    def suspend(self, key: str, by_other: bool) -> None:
        engine = self.caller(by_other)
        self.same(self.model.suspend(key), lambda: engine.suspend(key))

    @rule(key=keys, by_other=st.booleans())
    def resume(self, key: str, by_other: bool) -> None:
        engine = self.caller(by_other)
        self.same(self.model.resume(key), lambda: engine.resume(key))

    @rule(key=keys, holder=st.sampled_from("ab"), minutes=st.integers(1, 20), by_other=st.booleans())
    def take_lease(self, key: str, holder: str, minutes: int, by_other: bool) -> None:
        engine = self.caller(by_other)
        answer = self.model.hold(key, holder, minutes * MIN)
        self.same(answer, lambda: engine.take_lease(key, holder, minutes * MIN))

    @rule(key=keys, holder=st.sampled_from("ab"), by_other=st.booleans())
    def release(self, key: str, holder: str, by_other: bool) -> None:
        engine = self.caller(by_other)
        self.same(self.model.release(key, holder), lambda: engine.release(key, holder))

    @rule(key=keys, by_other=st.booleans())
    def close(self, key: str, by_other: bool) -> None:
        engine = self.caller(by_other)
        self.same(self.model.close(key, "logout"), lambda: engine.close(key, reason="logout"))

    @rule(key=keys, by_other=st.booleans())
    def rotate(self, key: str, by_other: bool) -> None:
        engine = self.caller(by_other)
        before = self.model.refusal(key)
        session = self.same(before, lambda: engine.rotate(key))
        if session is not None:
            assert self.model.rotate(key, session.session_id) is None

    # ── time and maintenance ──

    @rule(by_ms=TURNS)
    def turn_the_clock(self, by_ms: int) -> None:
        self.turn(by_ms)

    @rule(by_ms=TURNS)
    def turn_the_clock_more(self, by_ms: int) -> None:
        self.turn(by_ms)

    def turn(self, by_ms: int) -> None:
        self.model.remember()
        self.model.now_ms = self.stage.clock.advance(by_ms)

    @rule(by_ms=TURNS)
    def prune(self, by_ms: int) -> None:
        self.turn(by_ms)
        engine = self.caller(by_other=False)
        foreseen = engine.prune(dry_run=True)
        assert engine.prune(dry_run=True) == foreseen
        done = engine.prune()
        assert done.due == foreseen.due
        deadlines = [due.deadline_ms for due in done.due]
        assert deadlines == sorted(deadlines)
        wanted = self.model.prune(MAX_SESSIONS)
        by_time = [(due.session_id, due.reason) for due in done.due if due.reason != "capacity"]
        crowd = [(due.session_id, due.reason) for due in done.due if due.reason == "capacity"]
        assert sorted(by_time) == sorted(pair for pair in wanted if pair[1] != "capacity")
        assert crowd == [pair for pair in wanted if pair[1] == "capacity"]
        assert engine.prune().due == []

    @rule()
    def flush(self) -> None:
        self.engine.flush()

    @rule()
    def archive(self) -> None:
        self.engine.archive()

    @rule(killed=st.booleans(), body_bytes=st.sampled_from([1, 900, 10**8]))
    def restart(self, killed: bool, body_bytes: int) -> None:
        if killed:
            self.stage.crash(self.engine)
        else:
            self.engine.shutdown()
        self.engine = self.stage.open(max_sessions=MAX_SESSIONS, max_body_bytes=body_bytes)
        assert self.engine.notes == []

    # ── what holds at any time ──

    @invariant()
    def compare(self) -> None:
        if not hasattr(self, "stage"):
            return
        visible = {life.key: life for life in self.model.visible()}
        for engine in (self.engine, self.other):
            engine.refresh()
            for key in KEYS:
                session = engine.get(key)
                assert (session and self.shown(session)) == (visible[key].shown() if key in visible else None)
                there = [message.value for message in engine.messages(key)]
                assert there == (visible[key].messages if key in visible else [])
            assert [view.key for view in engine.list().sessions] == [life.key for life in self.model.by_use()]
            assert engine.count() == len(self.model.unended())
        assert self.engine.checkpoints() == self.other.checkpoints()

    @invariant()
    def compare_lives(self) -> None:
        if not hasattr(self, "stage"):
            return
        for key in KEYS:
            lives = [
                (at.session_id, at.began_at_ms, at.ended_at_ms, at.reason) for at in self.engine.session_spans(key)
            ]
            wanted = [life for life in self.model.lives if life.key == key]
            assert lives == [
                (life.session_id, life.created_ms, *life.end_at(self.stage.clock.now_ms())) for life in wanted
            ]
        report = self.engine.statistics()
        assert report["created"] == len(self.model.lives)
        assert report["ended"] == Counter(life.reason for life in self.model.lives if life.reason)
        for owner in ("ana", "bob"):
            owned = [view.key for view in self.engine.list(owner=owner).sessions]
            assert owned == [life.key for life in self.model.by_use() if life.owner() == owner]

    def shown(self, session: Any) -> dict[str, Any]:
        received = session.as_dict()
        del received["position"], received["policy"]
        return received

    def compare_past(self, moment: int, there: dict[str, Any]) -> None:
        for key in KEYS:
            session = self.engine.as_of(key, moment)
            said = json.loads(json.dumps([m.value for m in self.engine.messages_as_of(key, moment)]))
            assert ((session and self.shown(session)), said) == there.get(key, (None, []))


TestEngineAgainstNaive = EngineAgainstNaive.TestCase
TestEngineAgainstNaive.settings = settings(max_examples=40, stateful_step_count=30)

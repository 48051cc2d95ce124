"""One contract for every way to an engine: the same calls, the same results, the same errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from client_kinds import KINDS, opened_kind, shown
from hypothesis import given, settings
from hypothesis import strategies as st
from served import Served

import lastseen
from lastseen import ANY, AsyncClient, Client, ManualClock, Position, Status, Verdict, policy
from lastseen.engine.errors import (
    AlreadyDone,
    InvalidEvent,
    InvalidKey,
    InvalidSetting,
    LastseenError,
    SessionEnded,
    SessionExists,
    SessionNotFound,
    SessionSuspended,
    StaleSession,
    TooManyHolders,
    VersionConflict,
)

S, MIN = 1_000, 60_000
T0 = 1_700_000_000_000
KEY = "discord:guild1:chan2:ana"
ODD_KEYS = ["a/b/touch", "a?b#c%2F", "ключ 🗝", ".", "..", "a\\b", "%", "+ +", "'\";--", "/", "x" * 512, "🗝" * 512]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture(params=KINDS)
def there(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Any]:
    """Any way to an engine with an idle limit of 30 minutes."""
    with opened_kind(request.param, tmp_path, clock) as way:
        yield way


# ── beginning ──


def test_a_session_is_opened_once(there: Any) -> None:
    session = there.open(KEY, attributes={"owner": "ana", "deep": {"n": [1, None, "ü"]}}, policy=policy(max_age="1h"))
    assert session.key == KEY
    assert session.status is Status.ACTIVE
    assert session.version == 1
    assert session.owner == "ana"
    assert session.attributes == {"owner": "ana", "deep": {"n": [1, None, "ü"]}}
    assert session.policy == policy(max_age="1h")
    assert session.created_at_ms == session.last_active_at_ms == T0
    assert session.deadline_ms == T0 + 60 * MIN
    assert session.deadline_reason == "max_age"
    assert session.holders == {}
    assert session.position == Position(0, 1)
    assert session.partition == 0
    assert shown(there.open(KEY, attributes={"owner": "bob"})) == shown(session)
    assert shown(there.get(KEY)) == shown(session)
    assert there.open(KEY).session_id == session.session_id


def test_creating_what_is_there_is_refused(there: Any) -> None:
    assert there.create(KEY, attributes={"n": 1}).version == 1
    with pytest.raises(SessionExists):
        there.create(KEY)


def test_any_key_will_do(there: Any) -> None:
    for key in ODD_KEYS:
        there.open(key)
        assert there.touch(key).key == key
        assert there.get(key).version == 2
        assert [entry.key for entry in there.history(key)] == [key, key]
        there.close(key)
        assert there.get(key) is None


def test_a_rotation_carries_over(there: Any) -> None:
    before = there.open(KEY, attributes={"n": 1})
    with pytest.raises(VersionConflict):
        there.rotate(KEY, if_version=7)
    after = there.rotate(KEY, reason="reset", session_id=before.session_id, if_version=1)
    assert after.session_id != before.session_id
    assert after.attributes == {"n": 1}
    assert there.rotate(KEY, attributes={}).attributes == {}
    assert [life.reason for life in there.session_spans(KEY)] == ["reset", "rotated", None]
    with pytest.raises(SessionEnded):
        there.rotate(KEY, session_id=before.session_id)
    with pytest.raises(SessionNotFound):
        there.rotate("unknown")


def test_listings_and_histories_within_times(there: Any, clock: ManualClock) -> None:
    for owner in ("ana", "bo"):
        there.open(KEY, attributes={"owner": owner})
        clock.advance(MIN)
        there.close(KEY)
    there.open("live", attributes={"owner": "bo"})
    first, second = there.session_spans(KEY)
    assert there.session_spans(KEY, owner="bo") == [second]
    assert there.session_spans(KEY, until_ms=T0 + MIN) == [first]
    assert there.session_spans(KEY, since_ms=T0 + 2 * MIN) == [second]
    assert [entry.at_ms for entry in there.history(KEY, since_ms=T0 + MIN, until_ms=T0 + 2 * MIN)] == [T0 + MIN] * 2
    assert [session.key for session in there.list(since_ms=T0 + 2 * MIN).sessions] == ["live"]
    assert there.list(until_ms=T0 + 2 * MIN).sessions == []
    with pytest.raises(InvalidSetting):
        there.list(since_ms="yesterday")


# ── living ──


def test_touching(there: Any, clock: ManualClock) -> None:
    session = there.open(KEY)
    clock.advance(5 * MIN)
    touched = there.touch(KEY)
    assert touched.version == 2
    assert touched.last_active_at_ms == T0 + 5 * MIN
    assert touched.deadline_ms == T0 + 35 * MIN
    assert there.touch(KEY, session_id=session.session_id, if_version=2).version == 3
    assert there.touch(KEY, policy=policy(idle_ttl="1h")).deadline_ms == T0 + 65 * MIN
    assert there.touch(KEY, attributes={"n": {"a": 1}}).attributes == {"n": {"a": 1}}
    assert there.update(KEY, {"n": {"a": None, "b": 2}}, if_version=5).attributes == {"n": {"b": 2}}
    assert there.touch(KEY, wait="appended") is None
    assert there.touch(KEY, message={"text": "hello"}).version == 8
    with pytest.raises(VersionConflict):
        there.touch(KEY, if_version=3)
    with pytest.raises(VersionConflict):
        there.update(KEY, {}, if_version=3)
    with pytest.raises(StaleSession):
        there.touch(KEY, session_id="x" * 22)
    with pytest.raises(SessionNotFound):
        there.touch("unknown")
    with pytest.raises(InvalidSetting):
        there.touch(KEY, wait="long")


def test_messages_are_kept(there: Any) -> None:
    there.open(KEY, policy=policy(max_messages=2))
    for n in range(3):
        there.touch(KEY, message={"n": n, "text": "ü"})
    assert [(m.offset, m.value["n"]) for m in there.messages(KEY)] == [(3, 1), (4, 2)]
    assert [m.value for m in there.messages(KEY)] == [{"n": 1, "text": "ü"}, {"n": 2, "text": "ü"}]
    assert [m.value["n"] for m in there.messages_as_of(KEY, Position(0, 3))] == [0, 1]
    assert list(there.messages("unknown")) == []


@pytest.mark.parametrize(
    "message", [{"role": "user", "n": [1, 2.5, None, {"ü": True}]}, ["a", {}], "text", '{"text": 1}', "", 0, False]
)
def test_a_message_comes_out_as_it_went_in(there: Any, message: Any) -> None:
    there.open(KEY)
    there.touch(KEY, message=message)
    [now], [then] = there.messages(KEY), there.messages_as_of(KEY, Position(0, 2))
    assert (now.value, type(now.value)) == (message, type(message)) == (then.value, type(then.value))
    assert now.json == then.json == msgspec.json.encode(message)


def test_bytes_are_no_message(there: Any) -> None:
    there.open(KEY)
    with pytest.raises(InvalidEvent, match="bytes"):
        there.touch(KEY, message=b"text")
    with pytest.raises(InvalidEvent, match="bytes"):
        there.update(KEY, {"name": b"text"})
    assert list(there.messages(KEY)) == []


def test_touching_many(there: Any) -> None:
    there.open("a")
    there.open("suspended")
    there.suspend("suspended")
    answers = there.touch_many(["a", "unknown", "suspended", "a", ""])
    assert [type(answer) for answer in answers if isinstance(answer, LastseenError)] == [
        SessionNotFound, SessionSuspended, InvalidKey,
    ]  # fmt: skip
    assert [(answers[n].key, answers[n].version, answers[n].position) for n in (0, 3)] == [("a", 3, Position(0, 5))] * 2
    assert answers[0].session_id == there.get("a").session_id
    assert there.touch_many(["a"], wait="appended") == [None]


def test_many_are_suspended_resumed_and_ended_with_a_result_each(there: Any) -> None:
    named = there.open("a").session_id
    there.open("b")
    kinds = [type(each) for each in there.suspend_many(["a", ("b", None), ("b", "x" * 22), "absent"], reason="night")]
    assert kinds == [type(None), type(None), StaleSession, SessionNotFound]
    assert [type(each) for each in there.suspend_many(["a"])] == [AlreadyDone]
    assert there.resume_many(["b"]) == [None]
    assert [type(each) for each in there.close_many([("a", named), ("a", named), "b"], reason="revoked")] == [
        type(None),
        SessionEnded,
        type(None),
    ]
    assert there.session_spans("a")[-1].reason == "revoked"
    assert there.get("b") is None
    assert there.close_many([]) == []
    assert [type(each) for each in there.close_many(["", ("c", "short")])] == [InvalidKey, SessionNotFound]


def test_suspending(there: Any, clock: ManualClock) -> None:
    session = there.open(KEY)
    suspended = there.suspend(KEY, reason="lunch", session_id=session.session_id, if_version=1)
    assert suspended.status is Status.SUSPENDED
    assert suspended.deadline_ms is None
    with pytest.raises(AlreadyDone):
        there.suspend(KEY)
    with pytest.raises(SessionSuspended):
        there.touch(KEY)
    with pytest.raises(SessionSuspended):
        there.take_lease(KEY, "job", MIN)
    clock.advance(100 * MIN)
    assert there.resume(KEY).status is Status.ACTIVE
    with pytest.raises(AlreadyDone):
        there.resume(KEY)
    with pytest.raises(SessionNotFound):
        there.suspend("unknown")


def test_holding(there: Any, clock: ManualClock) -> None:
    session = there.open(KEY)
    with there.hold(KEY, holder="job", lease_ms=50 * MIN, session_id=session.session_id) as held:
        assert held.holder == "job"
        assert held.session.holders == {"job": T0 + 50 * MIN}
        clock.advance(40 * MIN)
        assert there.get(KEY).deadline_ms == T0 + 50 * MIN
    assert there.get(KEY) is None  # without the lease it has been idle for too long
    there.open(KEY)
    for n in range(16):
        there.take_lease(KEY, f"job-{n}", MIN)
    with pytest.raises(TooManyHolders):
        there.take_lease(KEY, "one more", MIN)
    assert len(there.release(KEY, "job-0").holders) == 15
    with pytest.raises(AlreadyDone):
        there.release(KEY, "job-0")


# ── ending ──


def test_ending(there: Any, clock: ManualClock) -> None:
    first = there.open(KEY)
    with pytest.raises(VersionConflict):
        there.close(KEY, if_version=9)
    assert there.close(KEY, reason="logout", session_id=first.session_id, if_version=1) is None
    assert there.get(KEY) is None
    with pytest.raises(SessionEnded):
        there.touch(KEY, session_id=first.session_id)
    with pytest.raises(SessionEnded, match="logout") as refused:
        there.close(KEY)
    end = refused.value.end
    assert (end.session_id, end.ended_at_ms, end.reason) == (first.session_id, T0, "logout")
    assert [type(each) for each in there.touch_many([KEY, "unknown"])] == [SessionEnded, SessionNotFound]
    second = there.open(KEY)
    previous = second.previous
    assert (previous.session_id, previous.ended_at_ms, previous.reason) == (first.session_id, T0, "logout")
    assert tuple(previous.position) == (0, 2)
    assert first.previous is None
    with pytest.raises(SessionEnded):
        there.close(KEY, session_id=first.session_id)
    clock.advance(30 * MIN)
    assert there.get(KEY) is None
    with pytest.raises(SessionEnded):
        there.touch(KEY)
    with pytest.raises(SessionEnded):
        there.close(KEY, session_id=second.session_id)


def test_opening_may_touch_and_takes_limits(there: Any, clock: ManualClock) -> None:
    first = there.open(KEY, touch=True, idle_ttl="1h30m", max_age=timedelta(days=1), suspend_ttl=None)
    assert (first.version, first.policy.idle_ttl_ms, first.policy.max_age_ms) == (1, 90 * MIN, 24 * 60 * MIN)
    clock.advance(MIN)
    again = there.open(KEY, touch=True)
    assert (again.session_id, again.version, again.last_active_at_ms) == (first.session_id, 2, T0 + MIN)
    assert there.open(KEY).version == 2
    assert there.create("other", idle_ttl="90s").policy.idle_ttl_ms == 90_000
    for bare in (90, 90.0):
        with pytest.raises(InvalidSetting, match="has no unit"):
            there.open("third", idle_ttl=bare)


# ── history ──


def test_why(there: Any, clock: ManualClock) -> None:
    there.open(KEY)
    clock.advance(MIN)
    there.touch(KEY)
    with pytest.raises(SessionExists):
        there.create(KEY)
    alive = there.explain(KEY)
    assert (alive.status, alive.reason, alive.partition, alive.offset) == ("active", "idle", 0, 2)
    assert "30 min from now" in alive.sentence
    there.close(KEY, reason="logout")
    ended = there.explain(KEY)
    assert (ended.status, ended.reason, ended.offset) == ("ended", "logout", 3)
    assert there.explain("unknown").status == "unknown"
    entries = there.history(KEY)
    assert [(e.offset, e.name, e.verdict, e.at_ms) for e in entries] == [
        (1, "created", Verdict.APPLIED, T0), (2, "touched", Verdict.APPLIED, T0 + MIN),
        (3, "closed", Verdict.APPLIED, T0 + MIN),
    ]  # fmt: skip
    assert [entry.offset for entry in there.history(KEY, after_offset=1, limit=1)] == [2]
    then = there.explain(KEY, at=T0)
    assert (then.status, then.ended_at_ms, then.last_active_at_ms) == ("active", T0 + MIN, T0)
    assert there.explain(KEY, at=Position(0, 2), session_id=ended.session_id).reason == "idle"
    assert there.explain(KEY, session_id="x" * 22).status == "unknown"
    (of_time,) = there.ended_sessions(since_ms=T0 + MIN, until_ms=T0 + MIN + 1, reason="logout", prefix=KEY).spans
    assert (of_time.session_id, of_time.policy) == (ended.session_id, ended.policy)
    assert there.ended_sessions(owner="eve").spans == there.ended_sessions(since_ms=T0 + MIN + 1).spans == []
    (life,) = there.session_spans(KEY)
    assert life == of_time
    assert (life.began_offset, life.ended_offset, life.reason) == (1, 3, "logout")
    assert there.session_spans(KEY, after_offset=1) == []
    assert there.history("unknown") == []


def test_what_was(there: Any, clock: ManualClock) -> None:
    there.open(KEY, attributes={"n": 1})
    clock.advance(MIN)
    there.update(KEY, {"n": 2})
    there.close(KEY)
    assert there.as_of(KEY, T0).attributes == {"n": 1}
    assert there.as_of(KEY, Position(0, 2)).attributes == {"n": 2}
    assert there.as_of(KEY, T0 - 1) is None
    assert there.as_of(KEY, Position(0, 3)) is None
    for nonsense in ("yesterday", 1.5, None, True):
        with pytest.raises(InvalidSetting):
            there.as_of(KEY, nonsense)
    assert there.as_of(KEY, clock.now_ms()) is None
    for read in (there.as_of, there.messages_as_of):
        with pytest.raises(InvalidSetting, match="in the future"):
            read(KEY, clock.now_ms() + 1)


def test_a_lease_may_depend_on_the_version(there: Any) -> None:
    version = there.open(KEY).version
    for command in (
        lambda v: there.take_lease(KEY, "job", 60_000, if_version=v),
        lambda v: there.release(KEY, "job", if_version=v),
    ):
        with pytest.raises(VersionConflict):
            command(version + 5)
        version = command(version).version


# ── listing ──


def test_listing(there: Any, clock: ManualClock) -> None:
    for n in range(7):
        there.open(f"key-{n}", attributes={"owner": "ana" if n % 2 else "bob"})
        clock.advance(S)
    there.touch("key-0")
    there.suspend("key-3")
    by_use = [f"key-{n}" for n in (1, 2, 3, 4, 5, 6, 0)]
    assert [session.key for session in there.list().sessions] == by_use
    assert [s.key for s in there.list(sort="created", limit=2).sessions] == ["key-0", "key-1"]
    assert [s.key for s in there.list(status="suspended").sessions] == ["key-3"]
    assert [s.key for s in there.list(status=Status.SUSPENDED).sessions] == ["key-3"]
    assert [s.key for s in there.list(owner="ana", sort="deadline").sessions] == ["key-1", "key-5", "key-3"]
    assert [s.key for s in there.list(prefix="key-6").sessions] == ["key-6"]
    assert there.list(prefix="none").sessions == []
    seen, cursor = [], None
    while True:
        page = there.list(limit=3, cursor=cursor)
        seen += [session.key for session in page.sessions]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == by_use
    for wrong in ({"sort": "size"}, {"status": "gone"}, {"limit": 0}, {"cursor": "nonsense"}):
        with pytest.raises(InvalidSetting):
            there.list(**wrong)


@pytest.mark.parametrize("name", ["owner", "prefix", "status"])
@pytest.mark.parametrize("computed", [None, ""])
def test_a_filter_that_came_out_empty_does_not_mean_all(there: Any, name: str, computed: object) -> None:
    there.open(KEY, attributes={"owner": "ana"})
    with pytest.raises(InvalidSetting, match=f"{name} = .*leave {name} out for any"):
        there.list(**{name: computed})
    assert len(there.list(**{name: ANY}).sessions) == 1


def test_a_cursor_continues_no_other_listing(there: Any) -> None:
    for n in range(3):
        there.open(f"key-{n}", attributes={"owner": "ana"})
    listing = {"owner": "ana", "sort": "created", "prefix": "key", "status": "active"}
    cursor = there.list(**listing, limit=1).cursor
    assert [each.key for each in there.list(**listing, limit=2, cursor=cursor).sessions] == ["key-1", "key-2"]
    for other in ({"owner": "bob"}, {"sort": "lru"}, {"prefix": "key-"}, {"status": ANY}):
        with pytest.raises(InvalidSetting, match="another sort, status, prefix or owner"):
            there.list(**(listing | other), cursor=cursor)


def test_counting(there: Any) -> None:
    there.open("a")
    there.open("b")
    there.close("b", reason="logout")
    report = there.statistics()
    assert (report["live"], report["created"], report["ended"]) == (1, 2, {"logout": 1})


def test_pruning(there: Any, clock: ManualClock) -> None:
    for key in ("a", "b", "held"):
        there.open(key)
    there.open("suspended")
    there.suspend("suspended")
    there.take_lease("held", "job", 50 * MIN)
    assert there.prune().due == []
    clock.advance(40 * MIN)
    plan = there.prune(dry_run=True)
    wanted = {("a", "idle", T0 + 30 * MIN, 1), ("b", "idle", T0 + 30 * MIN, 1)}
    assert {(each.key, each.reason, each.deadline_ms, each.version) for each in plan.due} == wanted
    assert there.statistics()["live"] == 4
    done = there.prune()
    assert {(each.key, each.reason, each.deadline_ms, each.version) for each in done.due} == wanted
    assert there.statistics()["live"] == 2
    assert there.prune().due == []


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_all_pages_are_gone_through(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("client", "async_client"):
        monkeypatch.setattr(f"lastseen.client.{module}.PAGE", 3)
    keys = [f"key-{n}" for n in range(8)]
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'log.db'}", background=False) as engine, Served(engine) as served:
        for key in [*keys, "other"]:
            engine.open(key)

        async def gone_through() -> list[str]:
            async with AsyncClient(served.address) as client:
                return [session.key async for session in client.sessions(sort="created", prefix="key-")]

        if kind == "client":
            with Client(served.address) as client:
                assert [session.key for session in client.sessions(sort="created", prefix="key-")] == keys
                assert client.position == "0:9"
        else:
            assert asyncio.run(gone_through()) == keys


# ── what is refused ──


def test_what_is_out_of_bounds_is_refused(there: Any) -> None:
    for key in ("", "x" * 513, "a\nb", "\x7f", "\ud800", 7, None):
        for method in ("open", "create", "touch", "get", "close", "suspend", "explain", "messages", "session_spans"):
            with pytest.raises(InvalidKey):
                getattr(there, method)(key)
    there.open(KEY)
    for attributes in ({"text": "x" * 17_000}, {"object": object()}, ["a list"], {1.5: object()}):
        with pytest.raises(InvalidEvent):
            there.update(KEY, attributes)
        with pytest.raises(InvalidEvent):
            there.open("another", attributes=attributes)
    with pytest.raises(InvalidEvent):
        there.touch(KEY, message="x" * 70_000)
    deep: Any = []
    for _ in range(40):
        deep = [deep]
    with pytest.raises(InvalidEvent):
        there.touch(KEY, message=deep)
    for reason in ("Not A Word", "", "x" * 100):
        with pytest.raises(InvalidEvent):
            there.close(KEY, reason=reason)
    for lease_ms in (0, -1, 2**60):
        with pytest.raises(InvalidEvent):
            there.take_lease(KEY, "job", lease_ms)
    with pytest.raises(InvalidEvent):
        there.take_lease(KEY, "a\nb", MIN)
    assert there.get(KEY).version == 1


# ── anything, in any order ──

COMMANDS = (
    "open",
    "create",
    "touch",
    "update",
    "say",
    "suspend",
    "resume",
    "lease",
    "release",
    "close",
    "rotate",
    "turn",
)


def do_one(way: Any, clock: ManualClock, choose: Random) -> Any:
    """A command drawn at random; what it said, or the name of the error."""
    key, command = f"key-{choose.randrange(4)}", choose.choice(COMMANDS)
    n, holder = choose.randrange(5), choose.choice("ab")
    limits = choose.choice([None, policy(idle_ttl="5m", suspend_ttl="3m"), policy(max_age="8m", max_messages=2)])
    version = choose.choice([None, None, 1, 2])
    try:
        match command:
            case "open" | "create" | "rotate":
                return shown(getattr(way, command)(key, attributes={"n": n, "owner": holder}, policy=limits))
            case "touch":
                return shown(way.touch(key, policy=limits, if_version=version))
            case "update":
                return shown(way.update(key, {"n": n or None, holder: {"x": n}}, if_version=version))
            case "say":
                return shown(way.touch(key, message=[n]))
            case "suspend" | "resume":
                return shown(getattr(way, command)(key, if_version=version))
            case "lease":
                return shown(way.take_lease(key, holder, (n + 1) * MIN))
            case "release":
                return shown(way.release(key, holder))
            case "close":
                return way.close(key, if_version=version)
            case _:
                return clock.advance(choose.choice([1, S, MIN, 4 * MIN]))
    except LastseenError as error:
        return type(error).__name__


def test_any_story_is_the_same_by_every_way(tmp_path: Path) -> None:
    with ExitStack() as stack:
        ways = []
        for kind in KINDS:
            folder, clock = tmp_path / kind, ManualClock(T0)
            folder.mkdir()
            ways.append((stack.enter_context(opened_kind(kind, folder, clock)), clock))

        @given(seed=st.integers(0, 2**32))
        @settings(max_examples=5)
        def tell(seed: int) -> None:
            first, *others = [story(way, clock, Random(seed)) for way, clock in ways]
            assert others == [first, first, first]

        tell()


def story(way: Any, clock: ManualClock, choose: Random) -> Any:
    """What is said while some commands are done, and all that is known after them."""
    said = [do_one(way, clock, choose) for _ in range(40)]
    keys = [f"key-{n}" for n in range(4)]
    sessions = [shown(session) for session in way.list(limit=1_000).sessions]
    past = [[each._replace(session_id=None, event_id=None, source=None) for each in way.history(key)] for key in keys]
    why = [{**asdict(way.explain(key)), "session_id": None} for key in keys]
    messages = [[(m.offset, m.at_ms, m.value) for m in way.messages(key)] for key in keys]
    return said, sessions, past, why, messages

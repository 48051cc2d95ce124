"""The LRU memory's drop-in: each test is named after the row of the predecessor's behaviour that it holds."""

from __future__ import annotations

import gc
import inspect
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import lastseen
from lastseen import Engine, ManualClock, errors
from lastseen.compat.lru import LruSessions
from lastseen.compat.lru.limits import LruLimits
from lastseen.compat.lru.logged import LoggedSessions
from tests.patience import eventually

S, MIN, HOUR = 1_000, 60_000, 3_600_000
T0 = 1_700_000_000_000
ROOMY, CRAMPED = 2**50, 1
"""Memory limits: hardly used, and far exceeded."""
NEVER_MS = 10**15
SECTION = """{"maxSessions": 2, "maxMessagesPerSession": 3, "sessionTtlMs": 4000, "inactiveTtlMs": 2000,
              "cleanupIntervalMs": 1000}"""
Open = Callable[..., LruSessions]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Iterator[Open]:
    """Opens sessions in memory, and on a log, that tests clean up themselves; closes them at the end."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'sessions.db'}"
    every: list[LruSessions] = []

    def open_one(*limits: Any, **others: Any) -> LruSessions:
        others = {"url": url, "clock": clock, "max_memory_bytes": ROOMY, "cleanup_interval_ms": NEVER_MS, **others}
        every.append(LruSessions(*limits, **others))
        return every[-1]

    yield open_one
    for each in every:
        each.shutdown()


@pytest.fixture
def logged(clock: ManualClock, tmp_path: Path) -> Iterator[LruSessions]:
    """Sessions on a log."""
    url = f"sqlite:///{tmp_path / 'logged.db'}"
    with LruSessions(url=url, clock=clock, max_memory_bytes=ROOMY, cleanup_interval_ms=NEVER_MS) as sessions:
        yield sessions


def engine_of(sessions: LruSessions) -> Engine:
    """The engine under sessions on a log."""
    store = sessions._store
    assert isinstance(store, LoggedSessions)
    return store.engine


# ── limits ──


def test_defaults_100_sessions_1000_messages_24_h_4_h_5_min() -> None:
    wanted = {
        "max_sessions": 100,
        "max_messages_per_session": 1_000,
        "session_ttl_ms": 24 * HOUR,
        "inactive_ttl_ms": 4 * HOUR,
        "cleanup_interval_ms": 5 * MIN,
    }
    parameters = inspect.signature(LruSessions).parameters
    assert {name: parameters[name].default for name in wanted} == wanted
    assert {name: getattr(LruLimits.of_section({}), name) for name in wanted} == wanted


def test_the_json_section_loads_as_it_is(clock: ManualClock) -> None:
    with LruSessions.of_section(json.loads(SECTION), clock=clock) as sessions:
        assert sessions.limits == LruLimits(
            max_sessions=2,
            max_messages_per_session=3,
            session_ttl_ms=4_000,
            inactive_ttl_ms=2_000,
            cleanup_interval_ms=1_000,
        )
        for key in "abc":
            sessions[key] = key
        assert list(sessions) == ["b", "c"]
        clock.advance(2_000)
        assert list(sessions) == []


def test_the_section_may_switch_limits_off() -> None:
    limits = LruLimits.of_section({"sessionTtlMs": None, "inactiveTtlMs": None})
    assert (limits.session_ttl_ms, limits.inactive_ttl_ms) == (None, None)


def test_ranges_are_checked_and_all_wrong_values_named_at_once() -> None:
    wrong = {
        "maxSessions": 0,
        "maxMessagesPerSession": 1_000_001,
        "sessionTtlMs": -1,
        "inactiveTtlMs": 1.5,
        "cleanupIntervalMs": None,
    }
    with pytest.raises(errors.InvalidSetting) as raised:
        LruLimits.of_section(wrong)
    assert str(raised.value).split("; ") == [
        "maxSessions = 0: give a whole number from 1 to 9007199254740991",
        "maxMessagesPerSession = 1000001: give a whole number from 1 to 1000000",
        "sessionTtlMs = -1: give a whole number from 1 to 9007199254740991, or null for no limit",
        "inactiveTtlMs = 1.5: give a whole number from 1 to 9007199254740991, or null for no limit",
        "cleanupIntervalMs = None: give a whole number from 1 to 9007199254740991",
    ]
    with pytest.raises(errors.InvalidSetting, match="give a JSON object"):
        LruLimits.of_section([1])  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidSetting, match="max_sessions = True"):
        LruLimits(max_sessions=True)


def test_unknown_names_of_the_section_are_left_alone_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert LruLimits.of_section({"maxSessions": 5, "theme": "dark"}).max_sessions == 5
    assert [record.message for record in caplog.records] == ["unknown settings are ignored: 'theme'"]


def test_difference_capacity_0_is_an_error_and_not_an_endless_loop(opened: Open) -> None:
    with pytest.raises(errors.InvalidSetting, match="max_sessions = 0: give a whole number from 1"):
        opened(0)


# ── the mapping ──


def test_map_like_get_set_has_delete_size_iteration(opened: Open) -> None:
    sessions = opened()
    assert isinstance(sessions, MutableMapping)
    sessions["a"] = {"user": "ana"}
    sessions["b"] = None
    assert sessions["a"] == {"user": "ana"}
    assert sessions["b"] is None
    assert sessions.get("b", 7) is None
    assert sessions.get("c", 7) == 7
    assert "a" in sessions
    assert "c" not in sessions
    assert 5 not in sessions
    assert len(sessions) == 2
    assert dict(sessions.items()) == {"a": {"user": "ana"}, "b": None}
    assert sessions == {"a": {"user": "ana"}, "b": None}
    assert ("b", None) in sessions.items()
    assert {"user": "ana"} in sessions.values()
    del sessions["a"]
    assert list(sessions) == ["b"]
    with pytest.raises(KeyError):
        sessions["a"]
    with pytest.raises(KeyError):
        del sessions["a"]
    assert sessions.pop("b") is None
    assert sessions.setdefault("c", 1) == 1
    sessions.update({"d": 2}, e=3)
    assert sessions.popitem() == ("c", 1)
    sessions.clear()
    assert len(sessions) == 0


def test_pop_is_one_event_on_a_log(logged: LruSessions) -> None:
    logged["a"] = 1
    assert logged.pop("a") == 1
    assert logged.pop("a", 2) == 2
    with pytest.raises(KeyError):
        logged.pop("a")
    assert engine_of(logged).statistics()["applied"] == {"opened": 1, "created": 1, "closed": 1}


def test_a_value_is_replaced_and_not_merged(opened: Open) -> None:
    sessions = opened()
    sessions["a"] = {"x": 1, "y": {"z": 2}}
    sessions["a"] = {"y": {"w": 3}}
    assert sessions["a"] == {"y": {"w": 3}}


@pytest.mark.parametrize("wrong", ["", "a\nb", "x" * 513])
def test_difference_keys_are_checked_when_they_are_set(opened: Open, wrong: str) -> None:
    sessions = opened()
    with pytest.raises(errors.InvalidKey):
        sessions[wrong] = 1
    assert wrong not in sessions
    assert sessions.get(wrong) is None
    assert sessions.messages.get(wrong) is None
    with pytest.raises(KeyError):
        del sessions[wrong]


def test_evict_least_recently_used_at_capacity(opened: Open, clock: ManualClock) -> None:
    sessions = opened(3)
    for key in "abc":
        sessions[key] = key
        clock.advance(1)
    assert sessions["a"] == "a"
    sessions["d"] = "d"
    assert list(sessions) == ["c", "a", "d"]
    sessions["c"] = "again"
    sessions["e"] = "e"
    assert list(sessions) == ["d", "c", "e"]
    assert sessions.statistics()["evictions"]["capacity"] == 2


def test_difference_capacity_is_what_it_says_and_not_80_percent_of_it(opened: Open) -> None:
    sessions = opened(10)
    for number in range(25):
        sessions[f"key-{number}"] = number
        sessions.cleanup()
        assert len(sessions) == min(number + 1, 10)
    assert list(sessions.values()) == list(range(15, 25))


def test_capacity_is_not_exceeded_under_many_threads(opened: Open) -> None:
    sessions = opened(5)
    seen: list[int] = []
    writers = [
        threading.Thread(target=lambda number=number: sessions.update({f"{number}-{n}": n for n in range(20)}))
        for number in range(4)
    ]
    for writer in writers:
        writer.start()
    while not seen or any(writer.is_alive() for writer in writers):
        seen.append(len(sessions))
    for writer in writers:
        writer.join()
    assert max(seen) <= 5
    assert len(sessions) == 5


def test_what_is_over_goes_before_what_is_used(opened: Open, clock: ManualClock) -> None:
    sessions = opened(2, inactive_ttl_ms=MIN)
    sessions["a"] = 1
    sessions["b"] = 2
    clock.advance(MIN)
    sessions["c"] = 3
    assert list(sessions) == ["c"]
    evictions = sessions.statistics()["evictions"]
    assert (evictions["capacity"], evictions["inactive_ttl"]) == (0, 2)


def test_session_ttl_is_absolute(opened: Open, clock: ManualClock) -> None:
    sessions = opened()
    sessions["a"] = 1
    for _ in range(7):
        clock.advance(3 * HOUR)
        assert sessions["a"] == 1
    clock.advance(3 * HOUR - 1)
    assert sessions["a"] == 1
    clock.advance(1)
    assert sessions.get("a") is None
    assert sessions.cleanup() == 1
    assert sessions.statistics()["evictions"]["session_ttl"] == 1


def test_inactive_ttl_restarts_with_each_use(opened: Open, clock: ManualClock) -> None:
    sessions = opened()
    sessions["a"] = 1
    sessions["b"] = 2
    clock.advance(3 * HOUR)
    assert sessions["a"] == 1
    clock.advance(HOUR)
    assert list(sessions) == ["a"]
    assert sessions.cleanup() == 1
    assert sessions.statistics()["evictions"]["inactive_ttl"] == 1


def test_difference_a_replaced_value_restarts_its_clocks(opened: Open, clock: ManualClock) -> None:
    sessions = opened(session_ttl_ms=10 * S, inactive_ttl_ms=6 * S)
    sessions["a"] = 1
    clock.advance(5 * S)
    sessions["a"] = 2
    for _ in range(3):
        clock.advance(3 * S)
        assert sessions["a"] == 2
    clock.advance(S)
    assert sessions.get("a") is None


def test_a_replaced_value_makes_the_session_the_youngest(opened: Open, clock: ManualClock) -> None:
    sessions = opened(session_ttl_ms=10 * S, inactive_ttl_ms=None)
    sessions["a"] = 1
    clock.advance(S)
    sessions["b"] = 1
    clock.advance(S)
    sessions["a"] = 2
    assert sessions["b"] == 1
    clock.advance(9 * S)
    assert (len(sessions), sessions.cleanup(), list(sessions)) == (1, 1, ["a"])


def test_where_both_limits_are_reached_at_once_the_absolute_one_is_named(opened: Open, clock: ManualClock) -> None:
    sessions = opened(session_ttl_ms=MIN, inactive_ttl_ms=MIN)
    sessions["a"] = 1
    clock.advance(MIN)
    sessions.cleanup()
    evictions = sessions.statistics()["evictions"]
    assert (evictions["session_ttl"], evictions["inactive_ttl"]) == (1, 0)


def test_a_replaced_value_keeps_its_messages(opened: Open) -> None:
    sessions = opened()
    sessions["a"] = 1
    sessions.messages["a"] = ["hello"]
    sessions["a"] = 2
    assert sessions.messages["a"] == ["hello"]


def test_has_does_not_touch_and_neither_does_any_other_look(opened: Open, clock: ManualClock) -> None:
    sessions = opened(2, inactive_ttl_ms=MIN)
    sessions["a"] = 1
    sessions["b"] = 2
    sessions.messages["a"] = ["hello"]
    sessions["b"] = 2
    clock.advance(MIN - 1)
    assert "a" in sessions
    assert "a" in sessions.messages
    assert list(sessions) == ["a", "b"]
    assert list(sessions.items()) == [("a", 1), ("b", 2)]
    assert list(sessions.values()) == [1, 2]
    assert ("a", 1) in sessions.items()
    assert list(sessions.messages.items()) == [("a", ["hello"])]
    assert list(sessions.messages.values()) == [["hello"]]
    assert sessions.peek("a") == 1
    assert sessions.messages.peek("a") == ["hello"]
    assert len(sessions) == 2
    assert sessions == {"a": 1, "b": 2}
    assert sessions.cleanup() == 0
    figures = sessions.statistics()
    assert (figures["hits"], figures["misses"]) == (0, 0)
    assert list(sessions) == ["a", "b"], "the order is as it was"
    clock.advance(1)
    assert list(sessions) == []


def test_difference_clean_up_does_not_touch(opened: Open, clock: ManualClock) -> None:
    sessions = opened(inactive_ttl_ms=MIN)
    sessions["a"] = 1
    for _ in range(3):
        clock.advance(20 * S - 1)
        assert sessions.cleanup() == 0
    clock.advance(3)
    assert sessions.cleanup() == 1


def test_iteration_survives_changes(opened: Open) -> None:
    sessions = opened()
    for key in "abc":
        sessions[key] = key
    for key in sessions:
        del sessions[key]
        sessions[key + "2"] = key
    assert list(sessions) == ["a2", "b2", "c2"]


# ── messages ──


def test_messages_are_a_mapping_too(opened: Open) -> None:
    sessions = opened()
    messages = sessions.messages
    assert isinstance(messages, MutableMapping)
    sessions["a"] = sessions["b"] = 1
    assert "a" not in messages
    messages.append("a", {"role": "user", "text": "hello"})
    messages.append("a", "again")
    messages["b"] = []
    assert messages["a"] == [{"role": "user", "text": "hello"}, "again"]
    assert dict(messages) == {"a": [{"role": "user", "text": "hello"}, "again"], "b": []}
    assert len(messages) == 2
    messages["a"] = ["other"]
    assert messages["a"] == ["other"]
    del messages["a"]
    assert "a" not in messages
    assert "a" in sessions
    with pytest.raises(KeyError):
        messages["a"]
    with pytest.raises(KeyError):
        del messages["a"]
    messages.append("a", "anew")
    assert messages["a"] == ["anew"]


def test_max_messages_per_session_keeps_the_newest(opened: Open) -> None:
    sessions = opened(max_messages_per_session=3)
    sessions["a"] = 1
    for number in range(5):
        sessions.messages.append("a", number)
    assert sessions.messages["a"] == [2, 3, 4]
    sessions.messages["a"] = list(range(10))
    assert sessions.messages["a"] == [7, 8, 9]
    sessions.messages.append("a", 10)
    assert sessions.messages["a"] == [8, 9, 10]


def test_messages_of_an_unknown_key(opened: Open) -> None:
    sessions = opened()
    with pytest.raises(KeyError):
        sessions.messages.append("a", 1)
    with pytest.raises(KeyError):
        sessions.messages["a"] = [1]


def test_messages_go_with_their_session(opened: Open) -> None:
    sessions = opened(1)
    sessions["a"] = 1
    sessions.messages.append("a", "hello")
    sessions["b"] = 2
    assert "a" not in sessions.messages
    sessions["a"] = 1
    assert "a" not in sessions.messages


def test_messages_are_uses_of_their_session(opened: Open, clock: ManualClock) -> None:
    sessions = opened(inactive_ttl_ms=MIN)
    for key in "abcd":
        sessions[key] = key
    sessions.messages["c"] = ["hello"]
    clock.advance(MIN - 1)
    sessions.messages.append("a", "hello")
    sessions.messages["b"] = ["hello"]
    assert sessions.messages["c"] == ["hello"]
    clock.advance(1)
    assert list(sessions) == ["a", "b", "c"]


def test_messages_by_two_who_begin_at_once(logged: LruSessions) -> None:
    logged["a"] = 1
    ready = threading.Barrier(4)

    def add(number: int) -> None:
        ready.wait()
        logged.messages.append("a", number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(logged.messages["a"]) == [0, 1, 2, 3]


# ── clean-up, figures ──


def test_cleanup_runs_at_its_interval(opened: Open, clock: ManualClock) -> None:
    sessions = opened(inactive_ttl_ms=MIN, cleanup_interval_ms=2 * MIN)
    sessions["a"] = 1
    clock.advance(MIN)
    assert sessions.statistics()["evictions"]["inactive_ttl"] == 0
    clock.advance(MIN)
    eventually(lambda: sessions.statistics()["evictions"]["inactive_ttl"] == 1)


def test_aggressive_clean_up_above_80_percent_memory(opened: Open) -> None:
    sessions = opened(max_memory_bytes=CRAMPED)
    assert sessions.cleanup() == 0
    for number in range(9):
        sessions[f"key-{number}"] = number
    sessions["key-0"] = 0
    assert sessions.cleanup() == 3, "a quarter, rounded up"
    assert list(sessions.values()) == [4, 5, 6, 7, 8, 0]
    assert sessions.statistics()["evictions"]["memory"] == 3
    assert [sessions.cleanup() for _ in range(5)] == [2, 1, 1, 1, 1]


def test_no_aggressive_clean_up_at_80_percent(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = opened()
    sessions["a"] = 1
    share = 0.8
    monkeypatch.setattr(sessions._pressure, "share", lambda: share)
    assert sessions.cleanup() == 0
    share = 0.81
    assert sessions.cleanup() == 1


def test_under_memory_pressure_held_and_suspended_sessions_stay(logged: LruSessions) -> None:
    engine = engine_of(logged)
    for key in ("held", "suspended", "free"):
        logged[key] = key
    engine.suspend("suspended")
    with engine.hold("held"):
        logged._pressure.limit_bytes = CRAMPED
        assert [logged.cleanup() for _ in range(2)] == [1, 0]
        assert sorted(logged) == ["held", "suspended"]


def test_hits_misses_and_evictions_are_counted_with_their_cause(opened: Open, clock: ManualClock) -> None:
    sessions = opened(2, session_ttl_ms=5 * MIN, inactive_ttl_ms=MIN)
    assert sessions.statistics()["hit_rate"] == 0.0
    for key in "abc":
        sessions[key] = key
    assert sessions.get("a") is None
    assert sessions.get("b") == sessions.get("b") == "b"
    del sessions["c"]
    for _ in range(6):
        clock.advance(50 * S)
        sessions.get("b")
    sessions["d"] = 1
    clock.advance(MIN)
    sessions.cleanup()
    assert sessions.statistics() == {
        "size": 0,
        "max_sessions": 2,
        "hits": 7,
        "misses": 2,
        "hit_rate": 7 / 9,
        "evictions": {"capacity": 1, "memory": 0, "session_ttl": 1, "inactive_ttl": 1},
    }


def test_shutdown_is_repeatable_and_final(opened: Open) -> None:
    sessions = opened()
    sessions["a"] = 1
    sessions.shutdown()
    sessions.shutdown()
    assert not any("lru" in thread.name for thread in threading.enumerate())
    for call in (lambda: sessions["a"], lambda: "a" in sessions, lambda: len(sessions), sessions.cleanup):
        with pytest.raises(errors.EngineClosed):
            call()


# ── what it costs ──


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python a call runs in this thread."""
    lines = 0

    def count(*_: object) -> Callable[..., object]:
        nonlocal lines
        lines += 1
        return count

    before = sys.gettrace()
    gc.disable()  # what watches the collector, such as Hypothesis, runs lines of its own
    sys.settrace(count)
    try:
        with suppress(KeyError):
            work()
    finally:
        sys.settrace(before)
        gc.enable()
    return lines


OPERATIONS: dict[str, Callable[[LruSessions], object]] = {
    "get": lambda sessions: sessions["key-7"],
    "miss": lambda sessions: sessions["unknown"],
    "peek": lambda sessions: sessions.peek("key-7"),
    "has": lambda sessions: "key-7" in sessions,
    "size": lambda sessions: len(sessions),
    "set": lambda sessions: sessions.__setitem__("key-7", 1),
    "set new, one goes": lambda sessions: sessions.__setitem__("new", 1),
    "delete": lambda sessions: sessions.__delitem__("key-7"),
    "add a message": lambda sessions: sessions.messages.append("key-7", 1),
    "forget messages": lambda sessions: sessions.messages.__delitem__("key-7"),
    "clean up": lambda sessions: sessions.cleanup(),
    "statistics": lambda sessions: sessions.statistics(),
}


@pytest.mark.parametrize("kind", ["memory", "engine"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_difference_every_operation_is_o_1(
    name: str, kind: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: the lines of Python that the operation runs, with 20 sessions and with 1,500."""

    def cost(population: int) -> int:
        if kind == "engine":
            engine = lastseen.open_engine("memory://", clock=clock, background=False, max_sessions=population)
            monkeypatch.setattr(
                "lastseen.compat.lru.lru._opened", lambda url, limits, clock: LoggedSessions(engine, limits, clock)
            )
        with LruSessions(population, clock=clock, max_memory_bytes=ROOMY, cleanup_interval_ms=NEVER_MS) as sessions:
            for number in range(population):
                sessions[f"key-{number}"] = number
            with suppress(KeyError):
                OPERATIONS[name](sessions)  # whatever is loaded or filed once
            for key in ("key-7", "key-8"):
                sessions[key] = 1
                sessions.messages[key] = [1]
            sessions.pop("new", None)
            return lines_run(lambda: OPERATIONS[name](sessions))

    assert cost(1_500) == pytest.approx(cost(20), rel=0.1)


# ── on a log ──


def test_difference_a_log_outlives_the_process(clock: ManualClock, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    with LruSessions(2, url=url, clock=clock) as sessions:
        for key in "abc":
            sessions[key] = {"key": key}
        sessions.messages.append("b", "hello")
    clock.advance(HOUR)
    with LruSessions(2, url=url, clock=clock) as sessions:
        assert list(sessions.items()) == [("c", {"key": "c"}), ("b", {"key": "b"})]
        assert sessions.messages["b"] == ["hello"]
        figures = sessions.statistics()
        assert (figures["hits"], figures["evictions"]["capacity"]) == (1, 1)


def test_difference_a_log_is_shared(clock: ManualClock, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    with LruSessions(url=url, clock=clock) as one, LruSessions(url=url, clock=clock) as other:
        one["a"] = 1
        engine_of(other).refresh()
        assert other["a"] == 1
        other["a"] = 2
        other.messages.append("a", "hello")
        engine_of(one).refresh()
        assert one["a"] == 2
        assert one.messages["a"] == ["hello"]
        del one["a"]
        assert other.get("a") is None


def test_set_by_many_at_once(logged: LruSessions) -> None:
    others = [threading.Thread(target=logged._store.put, args=("a", number)) for number in range(8)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    assert logged["a"] in range(8)
    assert engine_of(logged).statistics()["created"] == 1


def test_difference_values_on_a_log_are_json_and_copies(logged: LruSessions) -> None:
    value = {"list": [1]}
    logged["a"] = value
    value["list"].append(2)
    read = logged["a"]
    assert read == {"list": [1]}
    read["list"].append(3)
    logged.peek("a")["list"].append(4)
    assert logged["a"] == {"list": [1]}
    with pytest.raises(errors.InvalidEvent):
        logged["a"] = object()
    with pytest.raises(errors.InvalidEvent):
        logged["a"] = "x" * 17_000
    assert logged["a"] == {"list": [1]}


def test_in_memory_a_value_is_the_callers_own_object(clock: ManualClock) -> None:
    with LruSessions(clock=clock) as sessions:
        value = object()
        sessions["a"] = value
        assert sessions["a"] is value


def test_a_suspended_session_is_read_and_resumed_by_a_value(logged: LruSessions, clock: ManualClock) -> None:
    logged["a"] = 1
    engine_of(logged).suspend("a")
    clock.advance(MIN)
    assert logged["a"] == 1
    logged["a"] = 2
    session = engine_of(logged).get("a")
    assert session is not None
    assert (session.status, logged["a"]) == (lastseen.Status.ACTIVE, 2)


def test_every_end_on_a_log_can_be_explained(logged: LruSessions, clock: ManualClock) -> None:
    logged["a"] = 1
    clock.advance(4 * HOUR)
    logged.cleanup()
    assert "idle" in engine_of(logged).explain("a").sentence


def test_the_page_lists_every_difference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "compat-lru.md").read_text(encoding="utf-8")
    names = {name.removeprefix("test_difference_") for name in globals() if name.startswith("test_difference_")}
    listed = {line.split("`")[1] for line in page.splitlines() if line.startswith("- `")}
    assert listed == names


def test_the_pages_code_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "compat-lru.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})

"""The session manager's drop-in: each test is named after the row of the predecessor's behaviour that it holds."""

from __future__ import annotations

import inspect
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lastseen
from lastseen import Engine, ManualClock, errors
from lastseen.compat import interval as interval_module
from lastseen.compat import listing
from lastseen.compat.manager import SessionManager
from lastseen.compat.manager.limits import PRESETS, Thresholds
from lastseen.projections.pruner import Plan
from tests.patience import eventually

S, MIN, HOUR = 1_000, 60_000, 3_600_000
T0 = 1_700_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
def engine(clock: ManualClock) -> Iterator[Engine]:
    with lastseen.open_engine("memory://", clock=clock, background=False) as opened:
        yield opened


@pytest.fixture
def manager(engine: Engine, clock: ManualClock) -> Iterator[SessionManager]:
    """One whose own clock never comes to its intervals: tests clean up themselves."""
    with SessionManager(5 * MIN, 10_000 * HOUR, engine=engine, clock=clock, metrics_interval_ms=None) as made:
        yield made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "lastseen.compat.manager")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "lastseen.compat.manager"]


# ── limits ──


def test_timeout_30_min_and_cleanup_every_10_min_by_default() -> None:
    parameters = inspect.signature(SessionManager).parameters
    assert parameters["session_timeout_ms"].default == 30 * MIN
    assert parameters["cleanup_interval_ms"].default == 10 * MIN
    assert list(parameters)[:2] == ["session_timeout_ms", "cleanup_interval_ms"]


@pytest.mark.parametrize(
    ("name", "timeout_ms", "interval_ms"),
    [
        ("development", 5 * MIN, MIN),
        ("production", 30 * MIN, 10 * MIN),
        ("high_traffic", 15 * MIN, 5 * MIN),
        ("long_conversations", 2 * HOUR, 30 * MIN),
    ],
)
def test_presets(engine: Engine, clock: ManualClock, name: str, timeout_ms: int, interval_ms: int) -> None:
    assert PRESETS[name] == (timeout_ms, interval_ms)
    with SessionManager.of_preset(name, engine=engine, clock=clock) as made:
        assert (made.session_timeout_ms, made.cleanup_interval_ms) == (timeout_ms, interval_ms)
        made.create_session("conv-1", "chat-1")
        clock.advance(timeout_ms)
        assert made.get_session_info("conv-1") is not None
        clock.advance(1)
        assert made.get_session_info("conv-1") is None


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(errors.InvalidSetting, match=r"preset 'staging': the presets are development, production"):
        SessionManager.of_preset("staging")


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "30m", 2**53 - 1])
@pytest.mark.parametrize("name", ["session_timeout_ms", "cleanup_interval_ms", "metrics_interval_ms"])
def test_limits_are_whole_milliseconds_above_zero(engine: Engine, name: str, wrong: object) -> None:
    with pytest.raises(errors.InvalidSetting, match=name):
        SessionManager(**{name: wrong}, engine=engine)  # type: ignore[arg-type]


def test_boundary_strictly_greater_than_the_timeout(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1")
    clock.advance(5 * MIN)
    assert manager.cleanup() == 0
    assert manager.get_session_count() == 1
    clock.advance(1)
    assert manager.get_session_count() == 0
    assert manager.cleanup() == 1


# ── sessions ──


def test_create_session_gives_the_session(manager: SessionManager) -> None:
    wanted = {"chatId": "chat-1", "parentId": None, "createdAt": T0, "lastAccessed": T0}
    assert manager.create_session("conv-1", "chat-1") == wanted
    assert manager.get_session("conv-1") == wanted
    assert manager.create_session("conv-2", "chat-2", "message-1")["parentId"] == "message-1"


def test_create_session_replaces_one_of_the_same_id(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1", "message-1")
    clock.advance(MIN)
    manager.create_session("conv-1", "chat-2")
    wanted = {"chatId": "chat-2", "parentId": None, "createdAt": T0 + MIN, "lastAccessed": T0 + MIN}
    assert manager.get_session("conv-1") == wanted
    metrics = manager.get_metrics()
    assert (metrics["activeSessions"], metrics["totalCreated"], metrics["totalCleaned"]) == (1, 2, 0)


def test_create_session_where_one_has_timed_out(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1")
    clock.advance(6 * MIN)
    manager.create_session("conv-1", "chat-2")
    metrics = manager.get_metrics()
    assert (metrics["activeSessions"], metrics["totalCreated"], metrics["totalCleaned"]) == (1, 2, 1)


def test_create_session_by_many_at_once(manager: SessionManager) -> None:
    ready = threading.Barrier(8)

    def create() -> None:
        ready.wait()
        manager.create_session("conv-1", "chat-1")

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics = manager.get_metrics()
    assert (metrics["activeSessions"], metrics["totalCreated"], metrics["totalCleaned"]) == (1, 8, 0)


def test_get_session_touches(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1")
    manager.create_session("conv-2", "chat-2")
    clock.advance(3 * MIN)
    session = manager.get_session("conv-1")
    assert session is not None
    assert session["lastAccessed"] == T0 + 3 * MIN
    clock.advance(3 * MIN)
    assert manager.get_session("conv-1") is not None
    assert manager.get_session("conv-2") is None


def test_unknown_and_expired_give_none(manager: SessionManager, clock: ManualClock) -> None:
    assert manager.get_session("unheard-of") is None
    assert manager.get_session_info("unheard-of") is None
    assert manager.update_parent_id("unheard-of", "message-1") is False
    manager.create_session("conv-1", "chat-1")
    clock.advance(6 * MIN)
    # No clean-up has run, and it is over all the same.
    assert manager.get_session("conv-1") is None
    assert manager.get_session_info("conv-1") is None
    assert manager.update_parent_id("conv-1", "message-1") is False
    assert manager.delete_session("conv-1") is False
    assert manager.get_all_sessions() == []
    assert manager.get_session_count() == 0


def test_update_of_a_parent_id_counts_as_activity(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1")
    clock.advance(4 * MIN)
    assert manager.update_parent_id("conv-1", "message-1") is True
    clock.advance(4 * MIN)
    session = manager.get_session("conv-1")
    assert session is not None
    assert (session["chatId"], session["parentId"]) == ("chat-1", "message-1")
    manager.update_parent_id("conv-1", None)
    assert manager.get_session("conv-1") == {**session, "parentId": None, "lastAccessed": T0 + 8 * MIN}


def test_manual_delete(manager: SessionManager) -> None:
    manager.create_session("conv-1", "chat-1")
    assert manager.delete_session("conv-1") is True
    assert manager.get_session("conv-1") is None
    assert manager.get_metrics()["totalCleaned"] == 1
    assert manager.delete_session("conv-1") is False
    assert manager.delete_session("unheard-of") is False
    assert manager.get_metrics()["totalCleaned"] == 1


def test_info_with_age(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1", "message-1")
    clock.advance(MIN)
    manager.get_session("conv-1")
    clock.advance(2 * MIN)
    wanted = {
        "chatId": "chat-1",
        "parentId": "message-1",
        "createdAt": T0,
        "lastAccessed": T0 + MIN,
        "age": 3 * MIN,
    }
    assert manager.get_session_info("conv-1") == wanted
    clock.advance(3 * MIN + 1)
    assert manager.get_session_info("conv-1") is None, "to look at the info is no activity"


def test_all_sessions(manager: SessionManager, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    for number in range(5):
        manager.create_session(f"conv-{number}", f"chat-{number}")
        clock.advance(1)
    every = manager.get_all_sessions()
    assert [conversation_id for conversation_id, _ in every] == [f"conv-{number}" for number in range(5)]
    assert [session["chatId"] for _, session in every] == [f"chat-{number}" for number in range(5)]
    assert manager.get_session_count() == 5
    clock.advance(5 * MIN)
    assert manager.get_all_sessions() == [], "to list them is no activity"


def test_clear_all(manager: SessionManager, clock: ManualClock, lines: Callable[[], list[str]]) -> None:
    manager.create_session("conv-0", "chat-0")
    clock.advance(6 * MIN)
    for number in range(1, 4):
        manager.create_session(f"conv-{number}", "chat")
    assert manager.clear_all() == 3
    assert manager.get_all_sessions() == []
    metrics = manager.get_metrics()
    assert (metrics["activeSessions"], metrics["totalCreated"], metrics["totalCleaned"]) == (0, 4, 4)
    assert lines()[-1] == "[SESSION] Cleared: 3 sessions"
    assert manager.clear_all() == 0


def test_a_suspended_session_is_shown_and_not_touched(
    manager: SessionManager, engine: Engine, clock: ManualClock
) -> None:
    manager.create_session("conv-1", "chat-1")
    engine.suspend("conv-1")
    clock.advance(6 * MIN)
    session = manager.get_session("conv-1")
    assert session is not None
    assert session["lastAccessed"] == T0


# ── clean-up ──


def test_cleanup_returns_the_count(manager: SessionManager, clock: ManualClock) -> None:
    for number in range(3):
        manager.create_session(f"conv-{number}", "chat")
    assert manager.cleanup() == 0
    clock.advance(3 * MIN)
    manager.create_session("conv-3", "chat")
    clock.advance(3 * MIN)
    assert manager.cleanup() == 3
    assert manager.cleanup() == 0
    assert manager.get_session_count() == 1


def test_cleanup_by_two_at_once_counts_each_session_once(
    manager: SessionManager, engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        manager.create_session(f"conv-{number}", "chat")
    clock.advance(6 * MIN)
    counts: list[int] = []
    execute = engine._pruner.execute
    planned = threading.Event()

    def execute_late(plan: Plan, now_ms: int) -> int:
        planned.wait(0.05)  # the other has this long to make the same plan, if it can
        return execute(plan, now_ms)

    monkeypatch.setattr(engine._pruner, "execute", execute_late)
    threads = [threading.Thread(target=lambda: counts.append(manager.cleanup())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 50]


def test_cleanup_runs_at_its_interval(engine: Engine, clock: ManualClock) -> None:
    with SessionManager(5 * MIN, 2 * MIN, engine=engine, clock=clock) as made:
        made.create_session("conv-1", "chat-1")
        clock.advance(5 * MIN)
        eventually(lambda: engine.statistics()["pruner"]["runs"] == 1)
        assert engine.count() == 1
        clock.advance(2 * MIN)
        eventually(lambda: engine.count() == 0)
        assert made.get_metrics()["totalCleaned"] == 1


def test_cleanup_goes_on_after_an_error_and_a_clock_turned_back(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interval_module, "LONGEST_SLEEP_MS", 10)
    with SessionManager(5 * MIN, 2 * MIN, engine=engine, clock=clock, metrics_interval_ms=None) as made:
        calls = []

        def fail() -> None:
            calls.append(clock.now_ms())
            raise errors.LogUnavailable("the log is locked: try again")

        made._intervals[0]._work = fail
        clock.advance(2 * MIN)
        eventually(lambda: len(calls) == 1)
        clock.advance(-10 * HOUR)
        eventually(lambda: made._intervals[0]._next_ms < T0)
        clock.advance(2 * MIN)
        eventually(lambda: len(calls) == 2)


def test_cleanup_with_nothing_due_is_independent_of_the_population(clock: ManualClock) -> None:
    """Counted, not timed: the lines of Python that a clean-up runs."""

    def looks(population: int) -> int:
        lines = 0

        def count(*_: object) -> Callable[..., object]:
            nonlocal lines
            lines += 1
            return count

        with (
            lastseen.open_engine("memory://", clock=clock, background=False) as engine,
            SessionManager(5 * MIN, 10_000 * HOUR, engine=engine, clock=clock, metrics_interval_ms=None) as made,
        ):
            for number in range(population):
                engine.create(f"conv-{number}", policy=made._policy)
            traced_before = sys.gettrace()
            sys.settrace(count)
            try:
                assert made.cleanup() == 0
            finally:
                sys.settrace(traced_before)
        return lines

    assert looks(1_000) == looks(10)


# ── figures ──


def test_metrics_of_nothing_have_no_ages(manager: SessionManager) -> None:
    assert manager.get_metrics() == {
        "activeSessions": 0,
        "totalCreated": 0,
        "totalCleaned": 0,
        "oldestSession": None,
        "newestSession": None,
    }
    assert manager.get_oldest_session_age() is None
    assert manager.get_newest_session_age() is None


def test_metrics(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1")
    clock.advance(MIN)
    manager.create_session("conv-2", "chat-2")
    manager.create_session("conv-3", "chat-3")
    manager.delete_session("conv-3")
    clock.advance(2 * MIN)
    assert manager.get_metrics() == {
        "activeSessions": 2,
        "totalCreated": 3,
        "totalCleaned": 1,
        "oldestSession": 3 * MIN,
        "newestSession": 2 * MIN,
    }
    assert (manager.get_oldest_session_age(), manager.get_newest_session_age()) == (3 * MIN, 2 * MIN)


def test_metrics_through_clean_up(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1")
    clock.advance(3 * MIN)
    manager.create_session("conv-2", "chat-2")
    clock.advance(3 * MIN)
    before = manager.get_metrics()
    assert (before["activeSessions"], before["totalCleaned"], before["oldestSession"]) == (1, 0, 6 * MIN)
    manager.cleanup()
    after = manager.get_metrics()
    assert (after["activeSessions"], after["totalCleaned"], after["oldestSession"]) == (1, 1, 3 * MIN)


def test_health_endpoint_figures(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1")
    clock.advance(MIN)
    manager.create_session("conv-2", "chat-2")
    manager.delete_session("conv-2")
    manager.create_session("conv-3", "chat-3")
    assert manager.get_health() == {
        "active": 2,
        "total_created": 3,
        "total_cleaned": 1,
        "oldest_age_ms": MIN,
        "newest_age_ms": 0,
    }


def test_periodic_metrics_log(engine: Engine, clock: ManualClock, lines: Callable[[], list[str]]) -> None:
    with SessionManager(30 * MIN, 10_000 * HOUR, engine=engine, clock=clock) as made:
        made.create_session("conv-1", "chat-1")
        made.create_session("conv-2", "chat-2")
        made.delete_session("conv-2")
        clock.advance(5 * MIN)
        wanted = "[METRICS] Session stats: active=1 created=2 cleaned=1 retention_rate=50.0%"
        eventually(lambda: lines()[-1] == wanted)
        clock.advance(5 * MIN)
        eventually(lambda: lines()[-2:] == [wanted, wanted])


def test_metrics_log_of_nothing(manager: SessionManager, lines: Callable[[], list[str]]) -> None:
    manager.log_metrics()
    assert lines() == ["[METRICS] Session stats: active=0 created=0 cleaned=0 retention_rate=0.0%"]


def test_alert_for_too_many_active_1000(manager: SessionManager, engine: Engine) -> None:
    for number in range(1_000):
        engine.create(f"conv-{number}", policy=manager._policy)
    assert manager.get_alerts() == []
    manager.create_session("conv-1000", "chat")
    (alert,) = manager.get_alerts()
    assert alert == ("active", logging.ERROR, "[ALERT] High active session count: 1001")


def test_alert_for_too_old_2_h(manager: SessionManager, clock: ManualClock) -> None:
    manager.create_session("conv-1", "chat-1")
    for _ in range(24):
        clock.advance(5 * MIN)
        manager.get_session("conv-1")
    assert manager.get_alerts() == []
    clock.advance(1)
    assert manager.get_alerts() == [("age", logging.WARNING, "[ALERT] Very old session detected: 120 minutes")]


def test_alert_for_churn_over_90_percent_cleaned(manager: SessionManager) -> None:
    for number in range(11):
        manager.create_session(f"conv-{number}", "chat")
    for number in range(9):
        manager.delete_session(f"conv-{number}")
    assert manager.get_alerts() == []
    manager.delete_session("conv-9")
    assert manager.get_alerts() == [("churn", logging.WARNING, "[ALERT] High session cleanup rate: 90.9%")]


def test_alerts_are_logged_with_the_metrics(
    engine: Engine, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    thresholds = Thresholds(active_sessions=0, oldest_session_ms=MIN, cleaned_share=0.4)
    with SessionManager(engine=engine, clock=clock, metrics_interval_ms=None, thresholds=thresholds) as made:
        made.create_session("conv-1", "chat-1")
        made.create_session("conv-2", "chat-2")
        made.delete_session("conv-2")
        clock.advance(MIN + 1)
        made.log_metrics()
    assert [(record.levelname, record.message) for record in caplog.records if "[ALERT]" in record.message] == [
        ("ERROR", "[ALERT] High active session count: 1"),
        ("WARNING", "[ALERT] Very old session detected: 1 minutes"),
        ("WARNING", "[ALERT] High session cleanup rate: 50.0%"),
    ]


# ── log lines ──


def test_one_log_line_per_lifecycle_step(engine: Engine, clock: ManualClock, lines: Callable[[], list[str]]) -> None:
    made = SessionManager(5 * MIN, 10_000 * HOUR, engine=engine, clock=clock, metrics_interval_ms=None)
    made.create_session("conv-12345678", "chat-1")
    made.create_session("conv-abcd1234", "chat-2")
    made.create_session("conv-2", "chat-3")
    made.get_session("conv-2")
    made.delete_session("conv-2")
    made.cleanup()
    clock.advance(6 * MIN)
    made.create_session("conv-3", "chat-4")
    made.cleanup()
    made.shutdown()
    assert lines() == [
        "[SESSION] Created: conv-123 (total active: 1)",
        "[SESSION] Created: conv-abc (total active: 2)",
        "[SESSION] Created: conv-2 (total active: 3)",
        "[SESSION] Manually deleted session: conv-2",
        "[SESSION] Created: conv-3 (total active: 1)",
        "[SESSION] Expired: conv-123 (inactive for 360s)",
        "[SESSION] Expired: conv-abc (inactive for 360s)",
        "[SESSION] Cleanup: Removed 2 expired sessions (1 remaining)",
        "[SESSION] Shutdown: Cleanup interval cleared",
    ]


# ── the end ──


def test_graceful_repeatable_shutdown(tmp_path: Path, clock: ManualClock, lines: Callable[[], list[str]]) -> None:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    made = SessionManager(5 * MIN, 2 * MIN, url=url, clock=clock)
    made.create_session("conv-1", "chat-1")
    threads = [threading.Thread(target=made.shutdown) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.shutdown()
    assert lines().count("[SESSION] Shutdown: Cleanup interval cleared") == 1


def test_difference_a_closed_manager_answers_no_more(tmp_path: Path, clock: ManualClock) -> None:
    made = SessionManager(url=f"sqlite:///{tmp_path / 'sessions.db'}", clock=clock)
    made.shutdown()
    with pytest.raises(errors.EngineClosed):
        made.get_session("conv-1")
    with pytest.raises(errors.EngineClosed):
        made.get_metrics()


@pytest.mark.parametrize("wrong", ["", "a\nb", "x" * 513])
def test_difference_ids_are_checked(manager: SessionManager, wrong: str) -> None:
    with pytest.raises(errors.InvalidKey):
        manager.create_session(wrong, "chat-1")
    with pytest.raises(errors.InvalidKey):
        manager.get_session(wrong)


def test_no_cleanup_runs_after_shutdown(engine: Engine, clock: ManualClock) -> None:
    made = SessionManager(5 * MIN, MIN, engine=engine, clock=clock)
    made.create_session("conv-1", "chat-1")
    made.shutdown()
    assert not any("manager" in thread.name for thread in threading.enumerate())
    clock.advance(HOUR)
    assert engine.count() == 1
    assert made.cleanup() == 1, "by hand it still works, on an engine of the caller's"


def test_difference_sessions_and_totals_outlive_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    with SessionManager(5 * MIN, MIN, url=url, clock=clock) as made:
        made.create_session("conv-1", "chat-1", "message-1")
        made.create_session("conv-2", "chat-2")
        made.delete_session("conv-2")
    clock.advance(MIN)
    with SessionManager(5 * MIN, MIN, url=url, clock=clock) as made:
        session = made.get_session("conv-1")
        assert session is not None
        assert session["parentId"] == "message-1"
        metrics = made.get_metrics()
        assert (metrics["activeSessions"], metrics["totalCreated"], metrics["totalCleaned"]) == (1, 2, 1)


def test_difference_two_managers_on_one_log_see_the_same(tmp_path: Path, clock: ManualClock) -> None:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    with SessionManager(url=url, clock=clock) as one, SessionManager(url=url, clock=clock) as other:
        one.create_session("conv-1", "chat-1")
        other.engine.refresh()
        assert other.get_session("conv-1") == one.get_session("conv-1")
        assert one.delete_session("conv-1") is True
        other.engine.refresh()
        assert other.get_session("conv-1") is None
        assert other.get_metrics() == one.get_metrics()


def test_testable_with_a_fake_clock_on_its_own_engine(tmp_path: Path, clock: ManualClock) -> None:
    with SessionManager(5 * MIN, MIN, url=f"sqlite:///{tmp_path / 'sessions.db'}", clock=clock) as made:
        made.create_session("conv-1", "chat-1")
        clock.advance(6 * MIN)
        assert made.get_session("conv-1") is None
        eventually(lambda: made.get_metrics()["totalCleaned"] == 1)


def test_the_pages_code_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "compat-manager.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})

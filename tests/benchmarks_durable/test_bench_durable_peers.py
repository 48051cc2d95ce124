"""Every peer of the durable benchmarks does what its row claims: it touches, on the disk as promised, what is there."""

from __future__ import annotations

import gc
import json
import sqlite3
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import pytest
from eventsourcing.application import AggregateNotFoundError
from eventsourcing.sqlite import SQLiteFactory
from in_bench import said_by
from peer_servers import have_servers

import lastseen
from benchmarks import durable, durable_floors, durable_rocksdb
from benchmarks.durable_aggregates import AT_ITS_BEST, AggregateSessions, ChatSession, aggregates, aggregates_at_best
from benchmarks.durable_drive import BATCH, CALLERS, by_callers, in_batches, keys_of, one_by_one
from benchmarks.durable_tables import SqliteTable, now_ms, sqlite_table
from benchmarks.measure import Size
from lastseen.engine.log.port import Position

pytestmark = pytest.mark.thorough

KEYS = keys_of(200)
FULL = 2


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    have_servers()
    return said_by("peer_claims.py", str(tmp_path_factory.mktemp("peers")))


def test_a_touch_of_redis_prolongs_and_is_in_the_append_only_file(claims: dict[str, Any]) -> None:
    found = claims["redis"]
    assert found["ttls"] == [1800, 1800, 1800]
    assert found["times in the file"] == 2 + 3  # shortened, touched; SET has a word of its own
    assert found["refuses"] == [True, True]


@pytest.mark.parametrize("name", ["cache", "fanout"])
def test_diskcache_flushes_each_commit_keeps_all_and_prolongs(claims: dict[str, Any], name: str) -> None:
    found = claims["cache"][name]
    assert (found["journal"], found["synchronous"]) == ("wal", FULL)
    assert found["evicts"] == ["none", 0]
    assert (found["left_s"], found["count"]) == (1800, len(KEYS))
    assert found["refuses"] == [True, True]


def test_the_table_in_postgresql_touches_and_deletes_what_is_asked(claims: dict[str, Any]) -> None:
    found = claims["postgres"]
    assert (found["touched"], found["deleted"], found["left"]) == (11, 100, 100)
    assert found["by index"]
    assert found["refuses"] == [True, True]


def test_each_peer_with_a_library_can_be_driven_in_all_ways_that_it_has(claims: dict[str, Any]) -> None:
    everywhere, gathered = [True, True, True], [None, True, None]
    assert claims["driven"] == {
        "redis-py, AOF always": ["nothing", everywhere],
        "redis-py, AOF always, pipelines of 64": ["nothing", gathered],
        "redis-py, AOF everysec": ["the last second", everywhere],
        "redis-py, AOF everysec, pipelines of 64": ["the last second", gathered],
        "diskcache": ["nothing", everywhere],
        "PostgreSQL table": ["nothing", everywhere],
    }


def test_the_table_in_sqlite_is_wal_and_full_and_touches_what_is_there(tmp_path: Path) -> None:
    table = SqliteTable(tmp_path / "table.db", [(key, number) for number, key in enumerate(KEYS)])
    with closing(table.connection), closing(sqlite3.connect(tmp_path / "table.db")) as other:
        pragmas = [table.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", FULL]
        before = now_ms()
        table.touch(KEYS[0])
        table.touch_many(KEYS[1:11])
        assert other.execute("SELECT count(*) FROM sessions WHERE last_access >= ?", (before,)).fetchone() == (11,)
        assert table.delete_before(111) == 100
        assert other.execute("SELECT count(*) FROM sessions").fetchone() == (100,)
        plan = other.execute("EXPLAIN QUERY PLAN DELETE FROM sessions WHERE last_access < 5").fetchall()
        assert "by_last_access" in str(plan)
        with pytest.raises(LookupError):
            table.touch("no")
        with pytest.raises(LookupError):
            table.touch_many(["no"])


def test_bare_sqlite_is_wal_and_full_and_commits_a_row_for_each_key(tmp_path: Path) -> None:
    floor = durable_floors.BareSqlite(tmp_path / "floor.db")
    with closing(floor.connection), closing(sqlite3.connect(tmp_path / "floor.db")) as other:
        pragmas = [floor.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", FULL]
        floor.append(KEYS[:3])
        floor.append(KEYS[:1])
        assert other.execute("SELECT originator_version, state FROM stored_events").fetchall() == [
            (number, durable_floors.VALUE) for number in range(4)
        ]


def test_a_bare_file_is_flushed_at_each_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    with ExitStack() as stack:
        monkeypatch.setattr(durable_floors.os, "fdatasync", flushed.append)
        (subject,) = stack.enter_context(durable_floors.bare_file(tmp_path, KEYS))
        assert subject.hundred is not None
        subject.hundred(0.001)
        size = (tmp_path / "floor.bin").stat().st_size
    assert size == len(flushed) * BATCH * len(durable_floors.VALUE) > 0


@pytest.mark.parametrize("settings", [{}, AT_ITS_BEST])
def test_aggregates_log_each_touch_on_a_flushed_file(tmp_path: Path, settings: dict[str, str]) -> None:
    sessions = AggregateSessions(tmp_path / "aggregates.db", KEYS[:20], settings)
    with closing(sessions.application):
        sessions.touch(KEYS[0])
        sessions.touch(KEYS[0])
        sessions.touch_many(KEYS[:10])
        loaded: ChatSession = sessions.application.repository.get(sessions.ids[KEYS[0]])
        assert (loaded.key, loaded.version) == (KEYS[0], 4)
        assert loaded.modified_on > loaded.created_on
        with closing(sqlite3.connect(tmp_path / "aggregates.db")) as other:
            assert other.execute("SELECT count(*) FROM stored_events").fetchone() == (20 + 12,)
        factory = sessions.application.factory
        assert isinstance(factory, SQLiteFactory)
        with factory.datastore.transaction(commit=False) as cursor:
            cursor.execute("PRAGMA journal_mode")
            journal = cursor.fetchone()[0]
            cursor.execute("PRAGMA synchronous")
            found = [journal, cursor.fetchone()[0]]
        assert found == ["wal", FULL]
        sessions.ids["no"] = ChatSession.create_id("no")
        with pytest.raises(AggregateNotFoundError):
            sessions.touch("no")


def test_aggregates_at_their_best_read_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = AggregateSessions(tmp_path / "aggregates.db", KEYS[:20], AT_ITS_BEST)
    with closing(sessions.application):
        monkeypatch.setattr(sessions.application.events, "get", lambda *_, **__: pytest.fail("it read the log"))
        sessions.touch(KEYS[0])
        sessions.touch_many(KEYS[:10])


def test_the_rocksdb_state_notes_each_touch_in_an_environment_of_its_own(tmp_path: Path) -> None:
    with closing(durable_rocksdb.open_probe(tmp_path, KEYS)) as probe:
        before = now_ms()
        for which in ("as-it-is", "flushed"):
            first = probe.ask(which, "read", KEYS[0])
            assert first <= before
            assert durable_rocksdb.rate(probe, which, "hundred")(0.2) > 0
            assert durable_rocksdb.rate(probe, which, "one")(0.2) > 0
            assert probe.ask(which, "read", KEYS[0]) > first
            assert probe.ask(which, "read", "no") is None
    assert json.loads((tmp_path / "keys.json").read_text("utf-8")) == KEYS


@pytest.mark.parametrize("opens", [sqlite_table, durable_floors.bare_sqlite, aggregates, aggregates_at_best])
def test_each_peer_of_ours_can_be_driven_in_all_ways(tmp_path: Path, opens: durable.Opens) -> None:
    with opens(tmp_path, KEYS) as subjects:
        for subject in subjects:
            ways = [way for way in (subject.one, subject.callers, subject.hundred) if way is not None]
            assert [way(0.02) > 0 for way in ways] == [True, True, True]


def test_what_was_done_is_what_is_counted() -> None:
    touched: list[str] = []
    gathered: list[list[str]] = []
    started = [one_by_one(touched.append, KEYS), in_batches(gathered.append, KEYS, 64)]
    rates = [work(0.02) for work in started]
    assert rates[0] * 0.02 <= len(touched) <= rates[0] * 0.2
    assert touched[: len(KEYS)] == KEYS
    assert gathered[0] == KEYS[:64]
    assert {len(batch) for batch in gathered} == {64}
    assert rates[1] * 0.02 <= 64 * len(gathered)


def test_callers_have_keys_of_their_own_and_one_that_fails_is_no_rate() -> None:
    seen: list[list[str]] = [[] for _ in range(CALLERS)]
    assert by_callers([each.append for each in seen], KEYS)(0.02) > 0
    for number, keys in enumerate(seen):
        assert set(keys) <= set(KEYS[number::CALLERS])
    with pytest.raises(ZeroDivisionError):
        by_callers([lambda key: 1 // 0] * 2, KEYS)(0.02)


def test_the_engine_is_charged_for_what_it_writes_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "FLUSHED_EVERY_S", 0.02)
    done: list[str] = []

    class Slow:
        """An engine whose flush takes a twentieth of a second, and whose touches take no time."""

        def flush(self) -> None:
            done.append("flush")
            threading.Event().wait(0.05)

        def reached(self, partition: int) -> Position:
            return Position(partition, 1_000 if "work" in done else 0)

    def work(seconds: float) -> float:
        done.append("work")
        assert seconds == durable.FLUSHED_EVERY_S
        return 1e9

    rate = durable._with_flush(cast("lastseen.Engine", Slow()), work)(0.01)
    assert done == ["flush", "work", "flush"], "others' leavings before, its own at the end"
    assert rate <= 1_000 / 0.05


def test_the_engine_is_driven_in_all_ways_and_frozen_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "FLUSHED_EVERY_S", 0.02)
    with durable.engine(tmp_path, KEYS) as (subject,):
        ways = [subject.one, subject.callers, subject.hundred]
        assert [way is not None and way(0.02) > 0 for way in ways] == [True, True, True]
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_a_peer_that_is_missing_is_a_row_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(durable, "FLUSHED_EVERY_S", 0.02)
    monkeypatch.setattr(durable, "PEERS", ("durable_floors.bare_sqlite", "durable_caches.redis_always"))
    rows = durable.run(tmp_path, Size("full", 1, 200, 200, 200))
    assert [(row.subject, bool(row.missing)) for row in rows if row.missing] == [("redis-server", True)]
    compared = [row for row in rows if row.target]
    assert [row.name for row in compared] == [
        f"durable touches, {mode}: engine / bare sqlite3" for mode in (durable.ONE, durable.MANY, durable.HUNDRED)
    ]
    for row in compared:
        ours, theirs = row.samples["engine"], row.samples["bare sqlite3"]
        assert row.value == pytest.approx(ours[0] / theirs[0])
        assert row.reached == (row.value >= float(row.target.removeprefix("≥ ")))
    assert {row.subject for row in rows if row.plot} == {"engine", "bare sqlite3"}

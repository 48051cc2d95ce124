"""The rebuild benchmarks read the whole of what they say, and a restart answers for a session that is there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from in_bench import said_by
from peer_servers import have_servers

import lastseen
from benchmarks import kafka_topic, rebuild, rebuild_peers
from benchmarks.measure import Size
from benchmarks.workload import fill, key_of
from infra.kafka.choice import NoKafka
from lastseen.engine.clock import SystemClock
from lastseen.engine.log.sqlite.log import SqliteLog

pytestmark = pytest.mark.thorough

SESSIONS = 300


def log_of_sessions(path: Path) -> None:
    """A log in which so many sessions began."""
    clock = SystemClock()
    with closing(SqliteLog(str(path), clock, genesis=True)) as log:
        fill(log, SESSIONS, clock.now_ms(), rebuild.POLICY)


def test_a_refold_reads_every_record_or_is_refused(tmp_path: Path) -> None:
    log_of_sessions(tmp_path / "log.db")
    assert rebuild.fold_all(tmp_path / "log.db", SESSIONS) > 0
    with pytest.raises(AssertionError):
        rebuild.fold_all(tmp_path / "log.db", SESSIONS + 1)


def test_the_codec_alone_decodes_what_is_in_the_log(tmp_path: Path) -> None:
    log_of_sessions(tmp_path / "log.db")
    with closing(SqliteLog(str(tmp_path / "log.db"), SystemClock())) as log:
        records = list(log.read(0, 0, 1_000))
    assert len(records) == SESSIONS + 1
    assert rebuild.decode_all(records) > 0
    with pytest.raises(AssertionError):
        rebuild.decode_all([records[0]._replace(value=b"no event")])


def test_a_restart_answers_in_a_new_process_for_a_session_that_is_there(tmp_path: Path) -> None:
    log_of_sessions(tmp_path / "log.db")
    url = f"sqlite:///{tmp_path / 'log.db'}"
    lastseen.open_engine(url, background=False).shutdown()
    assert 0 < rebuild.first_answer(url, SESSIONS) < 30
    for wrong in (SESSIONS - 1, SESSIONS + 1):
        with pytest.raises(CalledProcessError):
            rebuild.first_answer(url, wrong)


def test_the_floors_load_as_many_sessions_as_were_kept(tmp_path: Path) -> None:
    floors = rebuild_peers.floors(tmp_path, SESSIONS)
    assert [load() > 0 for load in floors.values()] == [True, True]
    with pytest.raises(CalledProcessError):
        rebuild_peers.loaded(tmp_path / "sessions.json", "json", key_of(0), SESSIONS + 1)


def test_redis_loads_all_of_its_keys_from_each_of_its_files(tmp_path: Path) -> None:
    have_servers()
    found = said_by("rebuild_claims.py", str(tmp_path))
    assert set(found["seconds"]) == {"redis, RDB", "redis, AOF"}
    assert found["rdb"] == ["dump.rdb"]
    assert (found["aof"], found["rdb beside aof"]) == (500, False)


def test_a_short_run_has_its_rows_and_targets_where_they_mean_something(tmp_path: Path) -> None:
    rows = {row.name: row for row in rebuild.run(tmp_path, Size("quick", 1, 100, 200, SESSIONS))}
    ratio = rows["refold from SQLite / codec alone"]
    assert ratio.value == pytest.approx(ratio.samples["refold"][0] / ratio.samples["codec"][0])
    assert ratio.target == "≥ 0.6"
    assert rows["refold from SQLite, one process"].reached is None
    what = f"restart with {SESSIONS} live, to the first answer"
    assert {name for name in rows if name.startswith(what)} == {
        f"{what}: {who}" for who in ("engine", "pickle of a dictionary", "JSON of a dictionary")
    }


def test_without_a_broker_the_row_says_so_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(folder: Path) -> None:
        raise NoKafka("no Docker,\n  no Java")

    monkeypatch.setattr(kafka_topic, "broker", none_here)
    (row,) = rebuild.from_kafka(tmp_path, Size("full", 1, 100, 200, SESSIONS))
    assert (row.subject, row.missing) == ("Kafka", "no Docker, no Java")

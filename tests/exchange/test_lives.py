"""Sessions as a table: a row each, with its end, as many ends as the statistics count, in files that tools can read."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet as pyarrow_parquet

import lastseen
from lastseen.engine.errors import ExportError
from lastseen.exchange import history, json_lines, lives, parquet, sessions
from lastseen.exchange.sidecar import sidecar_of
from tests.exchange.test_export import Cut, interrupted

T0 = 1_700_000_000_000
SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000
EXPORTS = {"history": history.export_history, "sessions": sessions.export_sessions, "lives": lives.export_lives}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """A log in which sessions end in every way, and its statistics. Later records settle what is due."""
    clock = lastseen.ManualClock(T0)
    url = f"sqlite:///{tmp_path_factory.mktemp('lives') / 'log.db'}?partitions=2"
    settings: dict[str, Any] = {"idle_ttl": "10m", "max_age": "1h", "suspend_ttl": "30m"}
    with lastseen.open_engine(url, clock=clock, background=False, prune=False, source="/web", **settings) as engine:
        for key in ("idle", "aged", "parked", "closed", "rotated", "due", 'odd "key",é'):
            engine.open(key, attributes={"owner": f"owner of {key}"})
            clock.advance(SECOND_MS)
        engine.touch("closed", message={"text": "one"})
        engine.touch("closed", message={"text": "two"})
        engine.close("closed", reason="logout")
        engine.rotate("rotated")
        engine.suspend("parked")
        for _ in range(8):
            clock.advance(8 * MINUTE_MS)
            for key in ("aged", "rotated", 'odd "key",é'):
                engine.open(key, touch=True)
        engine.open("idle")
        engine.open("parked")
        return url, engine.statistics()


@pytest.fixture(autouse=True)
def reads_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export of live sessions reads by the log's clock."""
    monkeypatch.setattr("lastseen.embedded.offline.SystemClock", lambda: lastseen.ManualClock(T0 + 65 * MINUTE_MS))


def rows_of(file: Path) -> list[dict[str, Any]]:
    """What a program sees that knows nothing of lastseen."""
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))
    found: list[dict[str, Any]] = pyarrow_parquet.read_table(file).to_pylist()
    return found


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("kind", ["lives", "history"])
def test_as_many_rows_have_an_end_as_the_statistics_count(
    log: tuple[str, dict[str, Any]], tmp_path: Path, kind: str, ending: str
) -> None:
    url, statistics = log
    file = tmp_path / f"it.{ending}"

    exported = EXPORTS[kind](url, file)

    rows, reason = rows_of(file), "reason" if kind == "lives" else "ended_reason"
    assert len(rows) == exported.rows
    assert dict(Counter(row[reason] for row in rows if row[reason])) == statistics["ended"]
    assert {"idle", "max_age", "suspend_ttl", "logout"} < statistics["ended"].keys()
    if kind == "lives":
        assert len(rows) == statistics["created"]
        assert sum(not row["reason"] for row in rows) == statistics["live"]


def test_a_row_says_when_and_why_a_session_began_and_ended(log: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "lives.jsonl"
    lives.export_lives(log[0], file)
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(file):
        by_key.setdefault(row["key"], []).append(row)

    (closed,) = by_key["closed"]
    assert (closed["reason"], closed["ended_by"], closed["began_by"]) == ("logout", "/web", "/web")
    assert (closed["messages"], closed["events"], closed["owner"]) == (2, 4, "owner of closed")
    assert closed["duration_ms"] == closed["ended_at_ms"] - closed["began_at_ms"] == 4 * SECOND_MS
    idle = by_key["idle"][0]
    assert (idle["reason"], idle["ended_at_ms"]) == ("idle", T0 + 10 * MINUTE_MS), "not when a record settled it"
    assert idle["policy"]["idle_ttl_ms"] == 10 * MINUTE_MS
    assert [row["reason"] for row in by_key["aged"]] == ["max_age", None]
    (due,) = by_key["due"]
    assert (due["reason"], due["ended_at_ms"], due["duration_ms"], due["ended_by"]) == (None,) * 4


def test_parquet_has_times_as_timestamps_and_reasons_as_dictionaries(
    log: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    time, name = pyarrow.timestamp("ms", tz="UTC"), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    expected = {
        "lives": {"began_at": time, "ended_at": time, "reason": name, "owner": pyarrow.string()},
        "history": {"timestamp": time, "at": time, "ended_at": time, "verdict": name, "ended_reason": name},
        "sessions": {"created_at": time, "suspended_at": time, "deadline": time, "status": name},
    }
    for kind, types in expected.items():
        EXPORTS[kind](log[0], tmp_path / f"{kind}.parquet")
        schema = pyarrow_parquet.read_table(tmp_path / f"{kind}.parquet").schema
        assert {column: schema.field(column).type for column in types} == types
        assert not [column for column in schema.names if column.endswith("at_ms")]
    first = rows_of(tmp_path / "lives.parquet")[0]
    assert first["began_at"] >= datetime.fromtimestamp(T0 / 1_000, UTC)


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_file_of_lines_holds_rows_alone_and_says_beside_it_what_it_is(
    log: tuple[str, dict[str, Any]], tmp_path: Path, kind: str
) -> None:
    for ending in ("jsonl", "csv"):
        file = tmp_path / f"{kind}.{ending}"
        exported = EXPORTS[kind](log[0], file)
        rows, says = rows_of(file), json.loads(sidecar_of(file).read_text("utf-8"))
        assert len(rows) == exported.rows == says["rows"]
        assert {tuple(row) for row in rows} == {tuple(says["columns"])}
        assert (says["lastseen_export"], says["format"]) == (kind, 2)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("after", [0, 1, 7])
def test_what_was_interrupted_is_completed_and_what_is_complete_is_left_alone(
    log: tuple[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, after: int
) -> None:
    monkeypatch.setattr(parquet, "PART_ROWS", 3)
    monkeypatch.setattr(json_lines, "BUFFER_BYTES", 16)
    whole, file = tmp_path / f"whole.{ending}", tmp_path / f"it.{ending}"
    rows = lives.export_lives(log[0], whole).rows
    from lastseen.exchange.comma_separated import CsvWriter

    with monkeypatch.context() as patch:
        for kind in (json_lines.JsonLinesWriter, parquet.ParquetWriter, CsvWriter):
            patch.setattr(kind, "put", interrupted(kind.put, after))
        with pytest.raises(Cut):
            lives.export_lives(log[0], file)

    exported = lives.export_lives(log[0], file)

    assert exported.found == {"jsonl": after, "csv": 0, "parquet": after // 3 * 3}[ending]
    assert rows_of(file) == rows_of(whole)
    assert lives.export_lives(log[0], file).found == rows


def test_a_table_of_lives_is_not_imported(log: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "lives.jsonl"
    lives.export_lives(log[0], file)
    for bring in (history.import_history, sessions.import_sessions):
        with pytest.raises(ExportError, match="for analysis"):
            bring(file, "memory://")


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_another_programs_file_is_left_alone(log: tuple[str, dict[str, Any]], tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"notes.{ending}"
    file.write_text("mine\n")
    for export in EXPORTS.values():
        with pytest.raises(ExportError, match="not an export"):
            export(log[0], file)
    assert file.read_text() == "mine\n"
    assert list(tmp_path.iterdir()) == [file]

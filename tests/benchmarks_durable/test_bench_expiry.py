"""The expiry benchmarks end what is due, all of it and nothing else, and count what subscribers receive."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from in_bench import said_by
from peer_servers import have_servers

from benchmarks import expiry, expiry_notices
from benchmarks.expiry import ENGINE, IDLE_TTL_MS, KEPT, TABLE, Population
from benchmarks.measure import Size
from benchmarks.workload import key_of

pytestmark = pytest.mark.thorough

SMALL = Population(1_000, [100, 100, 50])


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    have_servers()
    return said_by("expiry_claims.py", str(tmp_path_factory.mktemp("expiry")))


def test_groups_fall_due_one_after_the_other_and_the_rest_stays() -> None:
    rows = SMALL.rows()
    assert [key for key, _ in rows] == [key_of(number) for number in range(1_250)]
    used = [used_at_ms for _, used_at_ms in rows]
    assert used == sorted(used)
    for group, first in enumerate((0, 100, 200)):
        assert used[first] == SMALL.used_at_ms(group)
    last_sweep_ms = SMALL.used_at_ms(2) + IDLE_TTL_MS
    assert all(each + IDLE_TTL_MS > last_sweep_ms for each in used[250:])
    assert used[-1] < SMALL.used_at_ms(0) + IDLE_TTL_MS, "the last is used before the first is due"


@pytest.mark.parametrize("opens", [expiry.engine, expiry.sqlite_table])
def test_a_sweep_ends_just_the_group_that_is_due(tmp_path: Path, opens: expiry.Opens) -> None:
    with opens(tmp_path, SMALL) as subject:
        assert subject.sweep(SMALL.start_ms - 1) == 0
        assert subject.sweep(SMALL.used_at_ms(0)) == 100
        assert subject.sweep(SMALL.used_at_ms(1)) == 100
        assert subject.sweep(SMALL.used_at_ms(1)) == 0
        assert subject.sweep(SMALL.used_at_ms(2)) == 50


def test_what_the_engine_has_ended_is_in_the_log_on_the_disk(tmp_path: Path) -> None:
    with expiry.engine(tmp_path, SMALL) as subject:
        subject.sweep(SMALL.used_at_ms(0))
        with closing(sqlite3.connect(tmp_path / "expiry.db")) as log:
            values = [value for (value,) in log.execute("SELECT state FROM stored_events")]
    assert sum(b"session.expired" in value for value in values) == 100


def test_rows_say_what_is_due_of_what_and_a_subject_that_ends_too_few_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "PASSES", 3)
    monkeypatch.setattr(expiry, "QUICK_SUBJECTS", (expiry.sqlite_table, expiry.engine))
    size = Size("quick", 1, 1_000, 1_000, 1_000)
    rows = {row.name: row for row in expiry.sweeps(tmp_path, 1_000, 1, size)}
    names = [f"{what}: {who}" for what in ("100 due of 1,000",) for who in (TABLE, ENGINE, KEPT)]
    assert set(rows) >= {f"sweep, {name}" for name in names}
    nothing = rows[f"sweep, nothing of 1,000 due: {ENGINE}"]
    assert nothing.target == "≤ 0.1 ms"
    assert rows[f"sweep, 100 due of 1,000: {KEPT}"].value >= rows[f"sweep, 100 due of 1,000: {ENGINE}"].value
    assert rows[f"sweep, nothing of 1,000 due: {TABLE}"].reached is None

    class Few(expiry.SqliteTable):
        def delete_before(self, last_access: int) -> int:
            return super().delete_before(last_access) // 2

    monkeypatch.setattr(expiry, "SqliteTable", Few)
    (tmp_path / "again").mkdir()
    with pytest.raises(AssertionError, match="ended"):
        expiry.sweeps(tmp_path / "again", 1_000, 1, size)


def test_every_peer_with_a_library_ends_what_is_due(claims: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in claims["sweeps"]}
    for who in (TABLE, "PostgreSQL DELETE", "cachetools TTLCache", ENGINE):
        assert rows[f"sweep, 100 due of 1,000: {who}"]["value"] > 0
        assert rows[f"sweep, nothing of 1,000 due: {who}"]["value"] > 0
    assert not [row["missing"] for row in claims["sweeps"] if row["missing"]]


def test_redis_has_subscribers_and_an_absent_one_misses_notifications(claims: dict[str, Any]) -> None:
    always, away = claims["notices"]
    assert always["value"] == 40.0
    assert 0 <= always["percentiles"]["p50"] <= always["percentiles"]["p99"] < 12e6
    assert away["value"] <= always["value"]


def test_the_engine_tells_of_every_expiry_in_time_and_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry_notices, "FIRST_DUE_MS", 1_500)
    monkeypatch.setattr(expiry_notices, "DUE_WITHIN_MS", 200)
    always, away = expiry_notices.of_engine(tmp_path, 40, 200)
    assert (always.value, away.value) == (40.0, 40.0)
    assert 0 <= always.percentiles["p50"] <= always.percentiles["p99.9"] < 10e6


def test_lateness_is_counted_from_each_deadline_over_those_reported() -> None:
    heard = expiry_notices.Heard()
    heard.at = {"a": 10.5, "b": 11.0, "live:z": 12.0}
    assert heard.late_us({"a": 10_000, "b": 10_900, "c": 10_000}) == pytest.approx([500_000, 100_000])
    heard.note("a")
    assert heard.at["a"] == 10.5

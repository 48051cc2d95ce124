"""Power that goes at any moment: what was acknowledged is there when it comes back, whatever the disk has kept.

A failing run prints its seed; `LASTSEEN_POWER_SEED` sets it.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from lastseen.engine.log.sqlite.recorder import LogConnection, LogConnectionPool
from lastseen.projections.history import History
from tests.durability import victim
from tests.durability.disk import Op
from tests.durability.power_loss import Held, Lost, check, lose_power, record

POINTS = 60
SEED = int(os.environ.get("LASTSEEN_POWER_SEED", str(random.SystemRandom().randrange(10**9))))
CALLS = 30


def test_what_was_acknowledged_survives_a_loss_of_power(tmp_path: Path) -> None:
    ops = record(tmp_path, SEED, CALLS)
    found = lose_power(ops, POINTS, SEED)
    assert sum(each.acknowledged for each in found) > POINTS, "little was acknowledged, so little was shown"
    assert {op.what for op in ops} >= {"write", "syncing", "sync", "truncate", "delete", "said"}


def test_a_loss_of_power_while_the_files_are_made_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    ops = record(tmp_path, SEED, 1)
    beginning = ops[: next(number for number, op in enumerate(ops) if op.what == "said")]
    assert len(beginning) > POINTS
    assert [each.acknowledged for each in lose_power(beginning, POINTS // 2, SEED)] == [0] * (POINTS // 2)


def test_a_log_whose_very_first_page_is_torn_is_made_anew(tmp_path: Path) -> None:
    ops = record(tmp_path, SEED, 0, lives=1)
    first = next(number for number, op in enumerate(ops) if op.what == "write" and op.path.endswith("log.db"))
    held = Held()
    for op in ops[: first + 1]:
        held.follow(op)
    headless = 0
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        held.lay_out(folder, "sectors", random.Random(seed))
        content = (folder / "log.db").read_bytes()
        headless += bool(content) and not content.startswith(b"SQLite")
        check(folder, [])
    assert headless, "its first sector was always kept, so nothing was shown"


def test_a_log_that_is_not_synced_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = LogConnectionPool._create_connection

    def connect_carelessly(pool: LogConnectionPool) -> LogConnection:
        connection = connect(pool)
        connection.raw.execute("PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr(LogConnectionPool, "_create_connection", connect_carelessly)
    with pytest.raises(Lost):
        lose_power(record(tmp_path, SEED, CALLS), POINTS, SEED)


def test_a_log_that_acknowledges_before_it_commits_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lastseen.embedded.opening

    def open_premature(url: str, clock: Any, **_: Any) -> victim.PrematureLog:
        return victim.PrematureLog(url.removeprefix("sqlite:///"), clock, genesis=True)

    monkeypatch.setattr(lastseen.embedded.opening, "open_log", open_premature)
    ops = record(tmp_path, SEED, CALLS, lives=1)
    monkeypatch.undo()
    with pytest.raises(Lost):
        lose_power(ops, POINTS, SEED)


def test_a_snapshot_that_believes_a_history_behind_it_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both files may lose their last commits, each for itself: the start has to compare them.
    ops = record(tmp_path, 7, CALLS)
    monkeypatch.setattr(History, "reached", lambda _: {0: 1_000_000})
    with pytest.raises(Lost, match="the history tells of"):
        lose_power(ops, 5 * POINTS, 7)


def test_the_disk_keeps_what_was_synced_before_and_no_more() -> None:
    held = Held()
    for op in (Op("write", "f", 0, b"old"), Op("syncing", "f"), Op("write", "f", 0, b"new"), Op("sync", "f")):
        held.follow(op)
    assert (bytes(held.synced["f"]), [op.content for op in held.unsynced["f"]]) == (b"old", [b"new"])

"""A log that a process opens twice: no lock of the first engine is given up, so its write-ahead files stay.

POSIX gives up all locks that a process has on a file when it closes any descriptor of that file. Another process
that closes the database then takes itself for the last one, and deletes the write-ahead file of the first engine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lastseen

COUNT = """
import sqlite3, sys
for path in sys.argv[1:]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.close()
"""
RECORDS = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT count(*) FROM stored_events").fetchone()[0])
"""


def in_another_process(script: str, *paths: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, paths)], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("second", [{}, {"snapshot": ":memory:"}], ids=["shared snapshot", "snapshot in memory"])
def test_what_is_acknowledged_after_a_second_opening_is_in_the_log(tmp_path: Path, second: dict[str, str]) -> None:
    path = tmp_path / "log.db"
    kept = [path, tmp_path / "log.db.snapshot", tmp_path / "log.db.history"]
    with lastseen.open_engine(f"sqlite:///{path}", background=False) as engine:
        engine.create("one")
        engine.flush()
        lastseen.open_engine(f"sqlite:///{path}", background=False, **second).shutdown()
        in_another_process(COUNT, *kept)
        assert [each.name for each in kept if not each.with_name(f"{each.name}-wal").exists()] == []
        engine.create("two")
        engine.flush()
        assert in_another_process(RECORDS, path) == "3\n"

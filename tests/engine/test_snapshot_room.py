"""A snapshot's file gives back to the disk what it no longer needs, in steps that callers do not notice."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage import Stage

from lastseen.projections.snapshot_file import SHRINK_PAGES, SPARE_PAGES


def test_a_step_gives_back_as_many_pages_as_it_says(on_disk: Stage, tmp_path: Path) -> None:
    engine = on_disk.open(snapshot=str(tmp_path / "one.snapshot"), prune=False)
    keys = [f"key-{number}" for number in range(200)]
    for key in keys:
        engine.open(key, attributes={"filling": "x" * 15_000})
    engine.flush()
    for key in keys:
        engine.close(key)
    engine.flush()
    snapshot = engine._state.snapshot
    connection = snapshot._file._connection

    def pages() -> int:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])

    before = pages()
    assert before > 2 * SPARE_PAGES
    steps: list[int] = []
    while given_back := snapshot.shrink():
        assert given_back <= SHRINK_PAGES
        steps.append(given_back)
        assert pages() == before - sum(steps)
        assert len(steps) < 10, "it comes to an end"
    assert sum(steps) > before / 2


@pytest.mark.parametrize("unit", [1, 3])
def test_few_free_pages_are_kept(on_disk: Stage, tmp_path: Path, unit: int) -> None:
    engine = on_disk.open(snapshot=str(tmp_path / "one.snapshot"), prune=False)
    for number in range(unit):
        engine.open(f"key-{number}", attributes={"filling": "x" * 15_000})
    engine.flush()
    for number in range(unit):
        engine.close(f"key-{number}")
    engine.flush()
    assert engine._state.snapshot.shrink() == 0

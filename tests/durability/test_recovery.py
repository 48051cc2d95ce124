"""Starts after kill -9, as `python -m tests.durability.recovery` measures them: nothing is lost, and they are quick.

The figures are those of a quiet machine and stand in docs/reliability.md; here the processor time is bounded, which no
neighbour lengthens much.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability import recovery
from tests.durability.recovery import Lost, prepare, quantile, recover, table

SESSIONS = 5_000


def test_what_was_acknowledged_is_there_after_each_start_and_the_start_is_quick(tmp_path: Path) -> None:
    starts = recover(prepare(tmp_path, SESSIONS), SESSIONS, kills=4, seed=3, work_s=0.6)
    assert [start.live for start in starts] == [SESSIONS] * 4
    for start in starts:
        assert start.started <= start.imported <= start.opened <= start.answered <= start.acknowledged
    assert quantile([start.processor for start in starts], 0.5) < recovery.ALLOWED_S, table(starts)


def test_a_session_that_went_back_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_once = recovery.kill_once

    def kill_and_exaggerate(*given: object) -> tuple[recovery.Start, dict[int, int]]:
        start, versions = kill_once(*given)  # type: ignore[arg-type]
        return start, {number: version + 1 for number, version in versions.items()}

    monkeypatch.setattr(recovery, "kill_once", kill_and_exaggerate)
    with pytest.raises(Lost, match="had version"):
        recover(prepare(tmp_path, 50), 50, kills=1, seed=3, work_s=0.6)


def test_quantiles_are_of_the_values_that_there_are() -> None:
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0, 0.5, 0.99, 1)] == [1, 2, 3, 3]

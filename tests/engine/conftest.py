"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import KINDS, Stage

from lastseen import Engine, ManualClock


@pytest.fixture(params=KINDS)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A stage on each kind of log."""
    made = Stage(tmp_path, request.param)
    yield made
    made.end()


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Stage]:
    """A stage on a log that outlives its engines."""
    made = Stage(tmp_path)
    yield made
    made.end()


@pytest.fixture
def engine(stage: Stage) -> Engine:
    """An engine with an idle limit of 30 minutes."""
    return stage.open()


@pytest.fixture
def clock(stage: Stage) -> ManualClock:
    return stage.clock

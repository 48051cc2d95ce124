"""An engine on a real file under a clock that tests turn, and a site's sessions on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lastseen
from lastseen.adapters.web_sessions import WebSessions

T0 = 1_700_000_000_000


@pytest.fixture
def clock() -> lastseen.ManualClock:
    return lastseen.ManualClock(T0)


@pytest.fixture
def engine(tmp_path: Path, clock: lastseen.ManualClock) -> Iterator[lastseen.Engine]:
    with lastseen.open_engine(f"sqlite:///{tmp_path / 'log.db'}", clock=clock, background=False) as engine:
        yield engine


@pytest.fixture
def sessions(engine: lastseen.Engine) -> WebSessions:
    return WebSessions(engine)

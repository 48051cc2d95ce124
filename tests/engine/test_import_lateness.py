"""The lateness of expiries: an import has none, since its times are those of its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lastseen
from lastseen.exchange import history, sessions
from lastseen.replay.replay import replay

T0 = 1_700_000_000_000
MINUTE_MS, DAY_MS = 60_000, 86_400_000


def lateness(statistics: dict[str, Any]) -> tuple[int, int, int]:
    return statistics["expiries"], statistics["expiry_lag_ms_total"], statistics["expiry_lag_ms_max"]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two people; one comes back after a day, which settles the session before."""
    lines = [
        {"at": at, "platform": "irc", "channel": "#x", "user": user, "action": "message", "size": 1}
        for at, user in (
            ("2004-12-25T00:00:00Z", "ana"), ("2004-12-25T00:01:00Z", "bo"), ("2004-12-26T00:00:00Z", "ana"),
        )
    ]  # fmt: skip
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("batch", [1, 1_000])
@pytest.mark.parametrize("finish", [False, True])
def test_a_replay_has_no_lateness_and_what_it_leaves_is_late_from_the_first_use(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finish: bool, batch: int
) -> None:
    monkeypatch.setattr("lastseen.replay.replay.BATCH_RECORDS", batch)
    url, clock = f"sqlite:///{tmp_path / 'log.db'}", lastseen.ManualClock(T0)
    replay(recording, url, finish=finish, clock=clock)
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        assert engine.statistics()["ended"] == {"idle": 2}
        assert lateness(engine.statistics()) == (0, 0, 0)
        if finish:
            engine.open("new", idle_ttl="1m")
            clock.advance(MINUTE_MS + 250)
            engine.prune()
            assert engine.statistics()["ended"] == {"idle": 4}
            # The session of 2004 is late from the first record of this log's own time: 60,250 ms. The new one: 250 ms.
            assert lateness(engine.statistics()) == (2, 60_500, 60_250)


def test_a_restart_does_not_change_it(recording: Path, tmp_path: Path) -> None:
    url, clock = f"sqlite:///{tmp_path / 'log.db'}", lastseen.ManualClock(T0)
    replay(recording, url, finish=True, clock=clock)
    for _ in range(2):
        with lastseen.open_engine(url, clock=clock, background=False) as engine:
            assert lateness(engine.statistics()) == (0, 0, 0)
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        engine.open("new")
    clock.advance(100)
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        engine.prune()
        assert lateness(engine.statistics()) == (1, 100, 100)
        assert engine.refold() == []


@pytest.mark.parametrize("kind", ["history", "sessions"])
def test_an_import_of_a_late_log_is_not_late(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, clock = f"sqlite:///{tmp_path / 'log.db'}", lastseen.ManualClock(T0)
    monkeypatch.setattr("lastseen.embedded.offline.SystemClock", lambda: clock)
    with lastseen.open_engine(url, clock=clock, background=False, idle_ttl="10m") as engine:
        engine.open("late")
        clock.advance(DAY_MS)
        engine.prune()
        engine.open("live")
        assert lateness(engine.statistics()) == (1, DAY_MS - 10 * MINUTE_MS, DAY_MS - 10 * MINUTE_MS)
    file, back = tmp_path / "export.jsonl", f"sqlite:///{tmp_path / 'back.db'}"
    if kind == "history":
        history.export_history(url, file)
        assert history.import_history(file, back, clock=clock).differing == 0
    else:
        sessions.export_sessions(url, file)
        sessions.import_sessions(file, back, clock=clock)
    with lastseen.open_engine(back, clock=clock, background=False) as engine:
        assert lateness(engine.statistics()) == (0, 0, 0)
        clock.advance(10 * MINUTE_MS + 30)
        engine.prune()
        assert lateness(engine.statistics())[0] == 1, "what ends after the import counts"

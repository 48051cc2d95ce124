"""Sessions that an import brings over as they are, however odd their times; and those that it cannot bring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import lastseen
from lastseen.cli.program import app
from lastseen.engine.log import open_log
from lastseen.engine.session import Policy
from lastseen.exchange import sessions

T0 = 1_700_000_000_000
SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000


@pytest.fixture
def clock() -> lastseen.ManualClock:
    return lastseen.ManualClock(T0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'log.db'}?partitions=2"


@pytest.fixture
def back(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'back.db'}?partitions=3"


def exported(url: str, tmp_path: Path, clock: lastseen.ManualClock) -> Path:
    file = tmp_path / "export.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastseen.embedded.offline.SystemClock", lambda: clock)
        sessions.export_sessions(url, file)
    return file


def shown(url: str, clock: lastseen.ManualClock) -> dict[str, Any]:
    """What an engine shows of the live sessions of a log, but for places and versions."""
    with lastseen.open_engine(url, clock=clock, background=False, snapshot=":memory:") as engine:
        assert not engine.is_importing
        found = {}
        for view in engine.list(limit=1_000).sessions:
            fields = view.as_dict()
            del fields["position"], fields["version"]
            messages = [(each.at_ms, each.event_id, each.value) for each in engine.messages(view.key)]
            found[view.key] = fields | {"holders": view.holders, "suspended_ms": view.suspended_ms, "said": messages}
        return found


def edited(file: Path, *rows: Mapping[str, Any]) -> None:
    """Change the first rows of an export."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line, change in zip(lines, rows, strict=False):
        line.update(change)
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))


def test_a_lease_that_is_longer_than_the_limit_comes_back(
    url: str, back: str, tmp_path: Path, clock: lastseen.ManualClock
) -> None:
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        engine.open("held")
        engine.take_lease("held", "job", HOUR_MS)
        engine.touch("held", policy=Policy(idle_ttl_ms=MINUTE_MS, max_hold_ms=MINUTE_MS))
        engine.open("other")
    file = exported(url, tmp_path, clock)

    imported = sessions.import_sessions(file, back, clock=clock)

    assert (imported.sessions, imported.skipped, imported.lost) == (2, [], [])
    assert shown(back, clock) == shown(url, clock)
    assert shown(back, clock)["held"]["holders"] == {"job": T0 + HOUR_MS}
    clock.advance(30 * MINUTE_MS)
    assert "held" in shown(back, clock), "its lease keeps it"
    clock.advance(30 * MINUTE_MS)
    assert "held" not in shown(back, clock)
    assert "held" not in shown(url, clock)


def test_two_rows_with_one_session_id_are_one_session(
    url: str, back: str, tmp_path: Path, clock: lastseen.ManualClock
) -> None:
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        first = engine.open("first")
        engine.open("second")
    file = exported(url, tmp_path, clock)
    edited(file, {}, {"session_id": first.session_id})

    imported = sessions.import_sessions(file, back, clock=clock)

    assert imported.sessions == 1 == len(shown(back, clock))
    [(key, why)] = imported.skipped
    assert key in {"first", "second"}
    assert "same session_id" in why


@pytest.mark.parametrize("step_ms", [3 * SECOND_MS, 2 * HOUR_MS])
def test_times_that_go_back_come_back(
    url: str, back: str, tmp_path: Path, clock: lastseen.ManualClock, step_ms: int
) -> None:
    """As on Kafka, where the log's clock may be set back."""
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        engine.open("key")
        for number in range(6):
            clock.advance(SECOND_MS)
            engine.touch("key", message={"text": number})
    file = exported(url, tmp_path, clock)
    [row] = rows_of(file)
    for message in row["messages"][1::2]:
        message["at_ms"] -= step_ms
    span_ms = row["last_active_at_ms"] - row["created_at_ms"]
    edited(file, {"messages": row["messages"], "parked_ms": span_ms * 3, "suspended_at_ms": T0, "status": "suspended"})

    imported = sessions.import_sessions(file, back, clock=clock)

    assert (imported.sessions, imported.skipped, imported.lost) == (1, [], [])
    found = shown(back, clock)["key"]
    assert [(at_ms, event_id) for at_ms, event_id, _ in found["said"]] == [
        (each["at_ms"], each["event_id"]) for each in row["messages"]
    ]
    assert (found["suspended_ms"], found["status"]) == (span_ms * 3, "suspended")
    assert (found["created_at_ms"], found["last_active_at_ms"]) == (row["created_at_ms"], row["last_active_at_ms"])


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def three(url: str, tmp_path: Path, clock: lastseen.ManualClock) -> Path:
    """An export of three sessions of this very moment."""
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        for number in range(3):
            engine.open(f"key-{number}")
            engine.touch(f"key-{number}", message="hello")
    return exported(url, tmp_path, clock)


@pytest.mark.parametrize(("behind_ms", "sessions_of_it"), [(MINUTE_MS, 3), (MINUTE_MS + 1, 0)])
def test_an_importer_whose_clock_is_behind(
    three: Path, back: str, clock: lastseen.ManualClock, behind_ms: int, sessions_of_it: int
) -> None:
    late = lastseen.ManualClock(clock.now_ms() - behind_ms)
    imported = sessions.import_sessions(three, back, clock=late)
    assert imported.sessions == sessions_of_it == len(shown(back, clock))
    assert len(imported.skipped) == 3 - sessions_of_it
    assert all("check the clock" in why for _, why in imported.skipped)


def test_a_log_whose_clock_is_far_behind_is_not_left_open(
    three: Path, back: str, clock: lastseen.ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = lastseen.ManualClock(clock.now_ms() - HOUR_MS)
    monkeypatch.setattr(sessions, "open_log", lambda url, _, **how: open_log(url, late, **how))
    imported = sessions.import_sessions(three, back, clock=clock)
    assert imported.sessions == 0 == len(shown(back, clock)), "of an import that was not believed"
    assert [key for key, _ in imported.lost] == ["key-0", "key-1", "key-2"]
    assert all("clock_skew" in why for _, why in imported.lost)


def test_a_loss_is_said(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sessions, "open_log", lambda url, _, **how: open_log(url, lastseen.ManualClock(T0 - HOUR_MS), **how)
    )
    other = f"sqlite:///{tmp_path / 'other.db'}"
    result = CliRunner().invoke(app, ["import", "sessions", str(three), "--log", other, "-o", "json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["sessions"] == 0
    assert len(json.loads(result.stdout)["lost"]) == 3
    assert "3 sessions of the file are not in the log" in result.stderr


def test_a_holder_that_came_and_went(url: str, back: str, tmp_path: Path, clock: lastseen.ManualClock) -> None:
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        engine.open("key")
        engine.take_lease("key", "short", SECOND_MS)
        engine.take_lease("key", "long", MINUTE_MS)
        clock.advance(2 * SECOND_MS)
        engine.touch("key")
    imported = sessions.import_sessions(exported(url, tmp_path, clock), back, clock=clock)
    assert (imported.sessions, imported.lost) == (1, [])
    assert shown(back, clock)["key"]["holders"] == {"long": T0 + MINUTE_MS}

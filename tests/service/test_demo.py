"""The demonstration: recorded chat at another speed, through an engine as a gateway would use it."""

from __future__ import annotations

import json
from pathlib import Path

import lastseen
from lastseen.replay.recording import SLICE, ChatEvent
from lastseen.service.demo import demonstration, idle_ms, paced
from tests.service.running import wait_until


def said(line: int, at_s: float) -> ChatEvent:
    """A line of a recording, so many seconds after its beginning."""
    return ChatEvent(line, 1_000_000 + round(at_s * 1000), "", "irc:#c:ana", "message")


def test_lines_come_at_the_speed_that_was_chosen() -> None:
    now_s = 100.0
    waits = [wait_s for _, wait_s in paced(iter([said(1, 0), said(2, 60), said(3, 90)]), 60, lambda: now_s)]
    assert waits == [0, 1.0, 1.5]


def test_who_is_late_does_not_wait() -> None:
    times = iter([100.0, 100.0, 105.0])
    waits = [wait_s for _, wait_s in paced(iter([said(1, 0), said(2, 60)]), 60, lambda: next(times))]
    assert waits == [0, -4.0]


def test_silence_is_cut_short_once_all_sessions_have_idled_out() -> None:
    _, (_, wait_s) = paced(iter([said(1, 0), said(2, 86_400)]), 60, lambda: 0.0)
    assert idle_ms(60) == 30_000
    assert wait_s == 36.0


def test_people_come_talk_leave_and_idle_out(tmp_path: Path) -> None:
    people = [("ana", "join", 0), ("bo", "message", 1), ("ana", "message", 2), ("bo", "leave", 3), ("cy", "leave", 4)]
    recording = tmp_path / "chat.jsonl"
    recording.write_text(
        "".join(
            json.dumps(
                {
                    "at": f"2006-08-06T00:00:{second:02}Z",
                    "platform": "irc",
                    "channel": "#c",
                    "user": who,
                    "action": does,
                }
            )
            + "\n"
            for who, does, second in people
        )
    )
    with lastseen.open_engine("memory://") as engine, demonstration(1_800, recording)(engine):
        wait_until(lambda: engine.statistics()["ended"].get("logout") == 1, "Bo has left")
        ana = engine.get("irc:#c:ana")
        assert ana is not None
        assert (ana.version, ana.owner, ana.policy.idle_ttl_ms) == (2, "ana", 1_000)
        wait_until(lambda: engine.statistics()["ended"].get("idle") == 1, "Ana has idled out", 10)
        assert engine.get("irc:#c:cy") is None


def test_the_recording_that_is_shipped_can_be_played_and_stopped() -> None:
    with lastseen.open_engine("memory://") as engine:
        with demonstration(100_000, SLICE)(engine):
            wait_until(lambda: engine.statistics()["created"] > 100, "a hundred people")
        assert engine.statistics()["created"] < 6_000, "it was played to its end at any speed"


def test_a_recording_that_is_damaged_ends_the_demonstration_and_nothing_else(tmp_path: Path) -> None:
    recording = tmp_path / "chat.jsonl"
    recording.write_text("no line of chat\n")
    with lastseen.open_engine("memory://") as engine, demonstration(60, recording)(engine):
        assert engine.open("ana").version == 1

"""The replay against an independent naive model: every figure, and every session of every person."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastseen.embedded.offline import reading
from lastseen.embedded.opening import open_engine
from lastseen.engine.clock import ManualClock, iso_from_ms
from lastseen.engine.errors import InvalidEvent, InvalidSetting, LogMismatch
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Message
from lastseen.replay.recording import SLICE, read_chat, session_key
from lastseen.replay.replay import delete_replay, replay
from replay.naive import naive_replay, read
from tests.contracts.log_contract import everything

ROOT = Path(__file__).resolve().parents[2]
MINUTE_MS = 60_000


def recording(folder: Path, chat: list[dict[str, Any]], name: str = "chat.jsonl") -> Path:
    """A recording of these events."""
    path = folder / name
    path.write_text("".join(json.dumps(event) + "\n" for event in chat), encoding="utf-8")
    return path


def line(at_ms: int, user: str, action: str = "message") -> dict[str, Any]:
    """One line of a recording."""
    return {
        "at": iso_from_ms(at_ms), "platform": "irc", "channel": "#ubuntu", "user": user, "action": action, "size": 1
    }  # fmt: skip


def url_in(folder: Path, name: str = "chat.db") -> str:
    """The URL of a log in a folder."""
    return f"sqlite:///{folder / name}"


def hold_against_the_model(
    path: Path, chat: list[dict[str, Any]], idle_ttl_ms: int, max_sessions: int, url: str
) -> str:
    """Replay and compare with the model; returns the digest."""
    figures, lives = naive_replay(chat, idle_ttl_ms, max_sessions)
    replayed = replay(path, url, idle_ttl=idle_ttl_ms, max_sessions=max_sessions).figures.as_dict()
    assert {name: replayed[name] for name in figures} == figures
    with reading(url) as engine:
        for person, wanted in lives.items():
            found = engine.session_spans(session_key(*person), limit=10_000)
            assert [(life.began_at_ms, life.ended_at_ms, life.reason) for life in found] == wanted, person
        people = {(event["platform"], event["channel"], event["user"]) for event in chat}
        for person in people - lives.keys():  # They only ever left.
            assert list(engine.session_spans(session_key(*person))) == []
        live = {session_key(*person) for person, sessions in lives.items() if sessions[-1][1] is None}
        assert {session.key for session in engine.list(limit=10_000).sessions} == live
        assert engine.statistics()["created"] == figures["created"]
        assert engine.statistics()["void"] == {}
        assert engine.checkpoints()[0] == (replayed["records"], replayed["digest"])
    return str(replayed["digest"])


# ── the real recording ──


@pytest.mark.parametrize(
    ("idle_ttl_ms", "max_sessions", "first"),
    [
        pytest.param(30 * MINUTE_MS, 100, None, marks=pytest.mark.thorough),
        (30 * MINUTE_MS, 100, 2_000),
        (7 * MINUTE_MS, 9, 3_000),
        pytest.param(7 * MINUTE_MS, 9, 8_000, marks=pytest.mark.thorough),
        (1, 1, 1_000),
        pytest.param(1, 1, 3_000, marks=pytest.mark.thorough),
        pytest.param(250, 3, 3_000, marks=pytest.mark.thorough),
        pytest.param(MINUTE_MS, 1, 5_000, marks=pytest.mark.thorough),
        pytest.param(24 * 60 * MINUTE_MS, 1_000_000, 6_000, marks=pytest.mark.thorough),
    ],
)
def test_every_figure_and_every_session_is_the_models(
    tmp_path: Path, idle_ttl_ms: int, max_sessions: int, first: int | None
) -> None:
    chat = read(SLICE)[:first]
    path = SLICE if first is None else recording(tmp_path, chat)
    hold_against_the_model(path, chat, idle_ttl_ms, max_sessions, url_in(tmp_path))


@pytest.mark.full
@pytest.mark.parametrize(("idle_ttl_ms", "max_sessions"), [(30 * MINUTE_MS, 100), (10 * MINUTE_MS, 20)])
def test_the_full_recording(tmp_path: Path, idle_ttl_ms: int, max_sessions: int) -> None:
    path = Path(os.environ.get("LASTSEEN_CHAT_FILE", ROOT.parent / "shared" / "data" / "ubuntu-irc.jsonl.gz"))
    digest = hold_against_the_model(path, read(path), idle_ttl_ms, max_sessions, url_in(tmp_path))
    again = replay(path, url_in(tmp_path, "again.db"), idle_ttl=idle_ttl_ms, max_sessions=max_sessions)
    assert again.figures.digest == digest


# ── made-up chats ──

USERS = ["ana", "bo", "b|o", "c:d", "c%3Ad", "\x01", "%01", "ß", "x" * 600, "x" * 601]
GAPS_MS = [0, 1, 249, 250, 999, 1000, 1001, 5_000, 90_000]


@settings(max_examples=35)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(GAPS_MS), st.sampled_from(USERS), st.sampled_from(["message", "message", "join", "leave"])
        ),
        max_size=60,
    ),
    idle_ttl_ms=st.sampled_from([1, 250, 1000, 5_000, 60_000]),
    max_sessions=st.sampled_from([1, 2, 3, 8, 100]),
)
def test_made_up_chats_too(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, str, str]], idle_ttl_ms: int, max_sessions: int,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("chat")
    at_ms, chat = 1_100_000_000_000, []
    for gap_ms, user, action in steps:
        at_ms += gap_ms
        chat.append(line(at_ms, user, action))
    hold_against_the_model(recording(folder, chat), chat, idle_ttl_ms, max_sessions, url_in(folder))


# ── once, twice, or in pieces ──


def records(url: str) -> list[tuple[Any, ...]]:
    """All that a log says, its log times included."""
    log = open_log(url, ManualClock())
    try:
        return [tuple(record) for record in everything(log)[0]]
    finally:
        log.close()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return recording(tmp_path, read(SLICE)[:3_000])


def test_the_same_replay_twice_gives_the_same_log(tmp_path: Path, small: Path) -> None:
    one = replay(small, url_in(tmp_path, "one.db"), max_sessions=20)
    other = replay(small, url_in(tmp_path, "other.db"), max_sessions=20)
    assert one.figures == other.figures
    assert records(url_in(tmp_path, "one.db")) == records(url_in(tmp_path, "other.db"))


@pytest.mark.parametrize(
    "held",
    [1, 2_000, 2_001, *(pytest.param(each, marks=pytest.mark.thorough) for each in (2, 57, 1_999, 2_005, 3_000))],
)
def test_a_log_that_ends_anywhere_is_gone_on_with(tmp_path: Path, small: Path, held: int) -> None:
    whole = replay(small, url_in(tmp_path, "whole.db"))
    clock = ManualClock()
    log = open_log(url_in(tmp_path), clock, genesis=False)
    for record in records(url_in(tmp_path, "whole.db"))[:held]:
        _, _, timestamp_ms, key, value, _ = record
        clock.set(timestamp_ms)
        log.append([Message(0, key, value)])
    log.close()
    resumed = replay(small, url_in(tmp_path))
    assert resumed.found_records == held
    assert resumed.figures == whole.figures
    assert [(key, value) for *_, key, value in records(url_in(tmp_path))] == [
        (key, value) for *_, key, value in records(url_in(tmp_path, "whole.db"))
    ]


def test_the_clock_of_the_machine_does_not_matter(tmp_path: Path, small: Path) -> None:
    now = replay(small, url_in(tmp_path, "now.db"))
    then = replay(small, url_in(tmp_path, "then.db"), clock=ManualClock(1_900_000_000_000))
    assert now.figures == then.figures
    assert records(url_in(tmp_path, "now.db")) == records(url_in(tmp_path, "then.db"))


def test_a_log_in_memory_gives_the_same_digest(tmp_path: Path, small: Path) -> None:
    assert replay(small, "memory://").figures == replay(small, url_in(tmp_path)).figures


def test_a_finished_replay_stays_finished(tmp_path: Path, small: Path) -> None:
    open_ended = replay(small, url_in(tmp_path))
    finished = replay(small, url_in(tmp_path), finish=True)
    assert finished.appended == 1
    assert finished.figures.digest != open_ended.figures.digest
    assert replay(small, url_in(tmp_path)).figures == finished.figures


def test_while_the_import_is_open_reads_look_at_the_recordings_end(tmp_path: Path, small: Path) -> None:
    live = replay(small, url_in(tmp_path)).figures.live
    with reading(url_in(tmp_path)) as engine:
        assert len(engine.list().sessions) == live > 0
    replay(small, url_in(tmp_path), finish=True)
    with reading(url_in(tmp_path)) as engine:
        assert engine.list().sessions == []


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"idle_ttl": "31m"}, False),
        ({"max_sessions": 99}, False),
        ({}, True),
    ],
)
def test_another_recording_or_other_options_are_refused(
    tmp_path: Path, small: Path, options: dict[str, Any], changed: bool
) -> None:
    replay(small, url_in(tmp_path))
    before = records(url_in(tmp_path))
    if changed:
        small.write_text(small.read_text("utf-8").replace('"size": 0', '"size": 1'), "utf-8")
    with pytest.raises(LogMismatch, match="does not belong to this replay"):
        replay(small, url_in(tmp_path), **options)
    assert records(url_in(tmp_path)) == before


@pytest.mark.parametrize(("intruders", "says"), [(1, "is not the one of this replay"), (2, "continues after")])
def test_a_log_that_another_process_wrote_to_is_refused_and_not_deleted(
    tmp_path: Path, small: Path, intruders: int, says: str
) -> None:
    replay(small, url_in(tmp_path))
    log = open_log(url_in(tmp_path), ManualClock())
    log.append([Message(0, f"irc:#ubuntu:intruder{number}", b"{}") for number in range(intruders)])
    log.close()
    before = records(url_in(tmp_path))
    with pytest.raises(LogMismatch, match=says):
        replay(small, url_in(tmp_path))
    with pytest.raises(LogMismatch, match="more than a replay"):
        delete_replay(url_in(tmp_path))
    assert records(url_in(tmp_path)) == before


def test_a_log_that_is_no_replay_is_refused_and_not_deleted(tmp_path: Path, small: Path) -> None:
    with open_engine(url_in(tmp_path)) as engine:
        engine.create("irc:#ubuntu:ana")
    for refused in (lambda: replay(small, url_in(tmp_path)), lambda: delete_replay(url_in(tmp_path))):
        with pytest.raises(LogMismatch):
            refused()
    with open_engine(url_in(tmp_path)) as engine:
        assert engine.get("irc:#ubuntu:ana") is not None


def test_a_replay_is_deleted_with_all_its_files_and_no_others(tmp_path: Path, small: Path) -> None:
    replay(small, url_in(tmp_path))
    with open_engine(url_in(tmp_path), background=False) as engine:
        engine.archive()
    bystander = tmp_path / "chat.db.notes"
    bystander.write_text("mine")
    delete_replay(url_in(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat.db.notes", small.name]


# ── recordings that are not in form ──

GOOD = line(1_100_000_000_000, "ana")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("{", 2),
        ("", 2),
        ("[]", 2),
        (json.dumps({**GOOD, "action": "dance"}), 2),
        (json.dumps({**GOOD, "user": ""}), 2),
        (json.dumps({**GOOD, "user": 7}), 2),
        (json.dumps({**GOOD, "size": -1}), 2),
        (json.dumps({**GOOD, "size": "1"}), 2),
        (json.dumps({**GOOD, "mood": "good"}), 2),
        (json.dumps({name: value for name, value in GOOD.items() if name != "channel"}), 2),
        (json.dumps({**GOOD, "at": "2004-12-25"}), 2),
        (json.dumps({**GOOD, "at": "yesterday"}), 2),
        (json.dumps({**GOOD, "at": "1969-12-31T23:59:59Z"}), 2),
        (json.dumps({**GOOD, "at": "2004-11-01T00:00:00Z"}), 2),
        (json.dumps({**GOOD, "at": "2999-01-01T00:00:00Z"}), 2),
        (json.dumps({**GOOD, "user": "#"}).replace("#", "\\ud800", 2), 2),
        ("[" * 100_000, 2),
        (json.dumps({**GOOD, "user": "u" * 70_000}), 2),
    ],
)
def test_a_line_that_is_not_in_form_is_named(tmp_path: Path, text: str, number: int) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{text}\n", "utf-8")
    with pytest.raises(InvalidEvent, match=f"line {number}"):
        replay(path, "memory://")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + json.dumps(GOOD).encode().replace(b"ana", b"\xff\xfe") + b"\n")
    with pytest.raises(InvalidEvent, match="line 2"):
        list(read_chat(path))


def test_a_recording_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl.gz"
    path.write_bytes(SLICE.read_bytes()[:10_000])
    with pytest.raises(InvalidEvent, match="gzip data is damaged"):
        list(read_chat(path))


def test_a_recording_that_begins_in_the_future_changes_nothing(tmp_path: Path) -> None:
    path = recording(tmp_path, [line(4_100_000_000_000, "ana")])
    with pytest.raises(InvalidEvent, match="future"):
        replay(path, url_in(tmp_path))
    assert not (tmp_path / "chat.db").exists()


def test_a_recording_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="cannot be read"):
        replay(tmp_path / "missing", url_in(tmp_path))
    assert not (tmp_path / "chat.db").exists()


@pytest.mark.parametrize(
    "options", [{"idle_ttl": "soon"}, {"idle_ttl": 0}, {"max_sessions": 0}, {"max_sessions": True}]
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match=next(iter(options))):
        replay(SLICE, url_in(tmp_path), **options)


def test_an_empty_recording_is_a_replay_of_nothing(tmp_path: Path) -> None:
    figures = replay(recording(tmp_path, []), url_in(tmp_path)).figures
    assert (figures.events_read, figures.live, figures.peak_live, figures.records) == (0, 0, 0, 1)

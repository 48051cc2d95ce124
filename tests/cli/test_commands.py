"""Every command and option of `lastseen`, through its real entry: output, messages, exit codes."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lastseen
from lastseen.cli.program import app
from lastseen.replay.recording import SLICE

ROOT = Path(__file__).resolve().parents[2]
KEY = "discord:guild:ana"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LASTSEEN_LOG", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, arguments, env=env)


def data_of(*arguments: str, exit_code: int = 0) -> Any:
    """What a command prints with `-o json`."""
    result = run(*arguments, "-o", "json")
    assert result.exit_code == exit_code, result.stderr
    return json.loads(result.stdout)


def lines_of(*arguments: str) -> list[Any]:
    """What a command prints with `-o jsonl`."""
    result = run(*arguments, "-o", "jsonl")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def failed(*arguments: str, exit_code: int, says: str) -> None:
    """A command that fails says why on stderr, and prints nothing on stdout."""
    result = run(*arguments)
    assert result.exit_code == exit_code, result.output
    assert re.search(says, result.stderr), result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.fixture
def log(tmp_path: Path) -> str:
    """A log with a history: Ana is live, Bo was closed, Cy is suspended, Di has timed out, not announced yet."""
    url = f"sqlite:///{tmp_path / 'service.db'}"
    clock = lastseen.ManualClock(1_700_000_000_000)
    with lastseen.open_engine(url, clock=clock, background=False, idle_ttl="9000d", source="/gateway") as engine:
        engine.create("di", policy=lastseen.policy(idle_ttl="1s"))
        engine.create(KEY, attributes={"owner": "ana", "mood": "[red]good\x1b[2J"})
        clock.advance(1000)
        for number in range(12):
            engine.touch(KEY, message={"text": f"hello {number}"})
        engine.create("bo")
        engine.close("bo", reason="logout")
        engine.create("cy")
        engine.suspend("cy")
    return url


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file, but for SQLite's shared memory and its empty logs."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.endswith("-shm") and not (path.name.endswith("-wal") and not path.stat().st_size)
    }


# ── replay ──


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    lines = [
        {"at": at, "platform": "irc", "channel": "#ubuntu", "user": user, "action": action, "size": 1}
        for at, user, action in [
            ("2004-12-25T00:00:00Z", "ana", "join"),
            ("2004-12-25T00:01:00Z", "bo", "message"),
            ("2004-12-25T00:02:00Z", "cy", "message"),
            ("2004-12-25T00:03:00Z", "cy", "leave"),
            ("2004-12-25T00:31:00Z", "ana", "message"),
            ("2004-12-25T00:31:00Z", "dan", "leave"),
        ]
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_replay_prints_its_figures(chat: Path) -> None:
    figures = data_of("replay", str(chat))
    assert figures == figures | {
        "events_read": 6, "created": 4, "ended": {"idle": 2, "logout": 1}, "live": 1, "peak_live": 3,
        "records": 8, "records_appended": 8, "longest_ms": 1_800_000,
    }  # fmt: skip
    assert set(figures) - {
        "events_read", "created", "ended", "live", "peak_live", "records", "records_appended", "longest_ms",
    } == {"digest", "seconds", "events_per_second", "log_bytes", "snapshot_bytes"}  # fmt: skip
    assert figures["log_bytes"] > 0 < figures["snapshot_bytes"]
    again = data_of("replay", str(chat))
    assert again["records_appended"] == 0
    assert {**again, "digest": figures["digest"], "live": 1} == again
    assert lines_of("replay", str(chat))[0]["digest"] == figures["digest"]


def test_replay_shows_people_a_table(chat: Path) -> None:
    result = run("replay", str(chat))
    assert result.exit_code == 0
    for words in (r"events read +6", r"ended: logout +1", r"longest session +30 min", r"log size +\d", r"events a sec"):
        assert re.search(words, result.stdout), result.stdout
    assert "already" in run("replay", str(chat)).stderr


def test_replay_takes_its_limits(chat: Path) -> None:
    figures = data_of(
        "replay", str(chat), "--idle-ttl", "1h", "--max-sessions", "2", "--log", "sqlite:///b/c.db", "--fresh"
    )
    assert figures["ended"] == {"capacity": 1, "logout": 1}
    assert figures["peak_live"] == 2


def test_replay_fresh_begins_anew(chat: Path) -> None:
    data_of("replay", str(chat))
    failed("replay", str(chat), "--max-sessions", "2", exit_code=4, says="does not belong to this replay")
    result = run("replay", str(chat), "--max-sessions", "2", "--fresh")
    assert result.exit_code == 0
    assert "deleted" in result.stderr
    assert data_of("replay", str(chat), "--max-sessions", "2")["records_appended"] == 0


def test_replay_fresh_deletes_no_service_s_log(log: str, chat: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    failed("replay", str(chat), "--log", log, "--fresh", exit_code=4, says="delete it by hand")
    assert files(tmp_path) == before


def test_replay_finish_closes_the_import(chat: Path) -> None:
    assert data_of("replay", str(chat), "--finish")["records"] == 9
    assert data_of("ls")["sessions"] == []
    assert [due["key"] for due in data_of("prune")["ended"]] == ["irc:#ubuntu:ana"]


def test_replay_into_memory_says_no_sizes(chat: Path, tmp_path: Path) -> None:
    assert data_of("replay", str(chat), "--log", "memory://")["log_bytes"] is None
    assert [path.name for path in tmp_path.iterdir()] == [chat.name]


def test_replay_refuses_bad_input(chat: Path, tmp_path: Path) -> None:
    failed("replay", exit_code=2, says="Missing argument")
    failed("replay", "nowhere.jsonl", exit_code=2, says="cannot be read")
    failed("replay", str(chat), "--idle-ttl", "soon", exit_code=2, says="idle_ttl = 'soon'")
    failed("replay", str(chat), "--max-sessions", "0", exit_code=2, says="max_sessions = 0")
    failed("replay", str(chat), "--max-sessions", "many", exit_code=2, says="max-sessions")
    failed(
        "replay",
        str(chat),
        "--log",
        "redis://x",
        exit_code=2,
        says=r"unknown scheme 'redis'; give .*kafka://host:9092/topic",
    )
    failed("replay", str(chat), "--fresh", "--log", "memory://", exit_code=2, says="give the file of a log")
    failed(
        "replay", str(chat), "--log", f"sqlite:///{tmp_path}/no/such.db", exit_code=2, says="the folder does not exist"
    )
    failed("replay", str(chat), "--log", f"sqlite:///{chat}", exit_code=4, says="is not a log")
    chat.write_text("{}\n")
    failed("replay", str(chat), exit_code=2, says="line 1")
    assert [path.name for path in tmp_path.iterdir()] == [chat.name]


# ── who is live ──


def keys(*arguments: str) -> list[str]:
    """The keys that `ls` lists."""
    return [session["key"] for session in data_of("ls", *arguments)["sessions"]]


def test_ls_lists_sorts_and_filters(log: str) -> None:
    assert keys("--log", log) == [KEY, "cy"]
    assert keys("--log", log, "--sort", "deadline") == [KEY, "cy"]
    assert keys("--log", log, "--sort", "created") == [KEY, "cy"]
    assert keys("--log", log, "--status", "suspended") == ["cy"]
    assert keys("--log", log, "--prefix", "disc") == [KEY]
    assert keys("--log", log, "--owner", "ana") == [KEY]
    assert keys("--log", log, "--owner", "stranger") == []


def test_ls_sorts_as_requested(tmp_path: Path) -> None:
    clock = lastseen.ManualClock(1_700_000_000_000)
    url = f"sqlite:///{tmp_path / 'sorted.db'}"
    with lastseen.open_engine(url, clock=clock, background=False) as engine:
        for key, idle_ttl in (("a", "9001d"), ("b", "9002d"), ("c", "9000d")):
            clock.advance(1000)
            engine.create(key, policy=lastseen.policy(idle_ttl=idle_ttl))
        clock.advance(1000)
        engine.touch("a")
    assert keys("--log", url) == ["b", "c", "a"]
    assert keys("--log", url, "--sort", "deadline") == ["c", "a", "b"]
    assert keys("--log", url, "--sort", "created") == ["a", "b", "c"]


def test_ls_comes_in_pages(log: str) -> None:
    first = data_of("ls", "--log", log, "--limit", "1")
    second = data_of("ls", "--log", log, "--limit", "1", "--cursor", first["cursor"])
    assert [session["key"] for page in (first, second) for session in page["sessions"]] == [KEY, "cy"]
    assert second["cursor"] is None
    result = run("ls", "--log", log, "--limit", "1", "-o", "jsonl")
    assert [json.loads(line)["key"] for line in result.stdout.splitlines()] == [KEY]
    found = re.search(r"--cursor (\S+)", result.stderr)
    assert found is not None, result.stderr
    assert data_of("ls", "--log", log, "--limit", "1", "--cursor", found[1])["sessions"] == second["sessions"]


def test_ls_shows_people_a_table(log: str) -> None:
    result = run("ls", "--log", log)
    assert re.search(rf"{KEY} +active +ana +13 +2023-11-14T22:13:20.000Z", result.stdout), result.stdout


def test_ls_names_its_log_by_the_environment_too(log: str) -> None:
    result = run("ls", "-o", "jsonl", env={"LASTSEEN_LOG": log})
    assert [json.loads(line)["key"] for line in result.stdout.splitlines()] == [KEY, "cy"]


def test_ls_refuses_bad_input(log: str) -> None:
    failed("ls", "--log", log, "--sort", "size", exit_code=2, says="sort = 'size'")
    failed("ls", "--log", log, "--status", "asleep", exit_code=2, says="status = 'asleep'")
    failed("ls", "--log", log, "--limit", "0", exit_code=2, says="limit = 0")
    failed("ls", "--log", log, "--cursor", "x", exit_code=2, says="cursor = 'x'")
    failed("ls", "--log", log, "-o", "xml", exit_code=2, says="xml")
    failed("ls", "--log", log, "--colour", exit_code=2, says="--colour")
    failed("ls", "--log", "memory://", exit_code=2, says="give the file of a log")


def test_show_has_state_limits_attributes_and_the_newest_messages(log: str) -> None:
    session = data_of("show", KEY, "--log", log)
    assert session == session | {"key": KEY, "status": "active", "version": 13, "owner": "ana"}
    assert session["attributes"]["mood"] == "[red]good\x1b[2J"
    assert [each["message"]["text"] for each in session["messages"]] == [f"hello {number}" for number in range(2, 12)]
    assert [each["message"]["text"] for each in data_of("show", KEY, "--log", log, "--messages", "2")["messages"]] == [
        "hello 10", "hello 11",
    ]  # fmt: skip
    assert data_of("show", KEY, "--log", log, "--messages", "0")["messages"] == []
    assert lines_of("show", KEY, "--log", log) == [session]


def test_show_lets_no_attribute_steer_the_terminal(log: str) -> None:
    result = run("show", KEY, "--log", log)
    assert "[red]good\\x1b[2J" in result.stdout
    assert "\x1b" not in result.stdout
    assert "hello 11" in result.stdout


def test_show_says_why_there_is_no_session(log: str) -> None:
    failed("show", "bo", "--log", log, exit_code=3, says="bo ended .* closed it")
    failed("show", "di", "--log", log, exit_code=3, says="di ended .* no record has ended it yet")
    failed("show", "unknown", "--log", log, exit_code=3, says="No record names unknown")
    failed("show", "", "--log", log, exit_code=2, says="session key ''")
    failed("show", "a\x00b", "--log", log, exit_code=2, says="control characters")
    failed("show", KEY, "--messages", "-1", "--log", log, exit_code=2, says="messages")


# ── history ──


def test_history_has_every_record_with_its_verdict(log: str) -> None:
    page = data_of("history", "bo", "--log", log)
    entries = page["records"]
    assert page["cursor"] is None
    assert [(entry["name"], entry["verdict"], entry["reason"]) for entry in entries] == [
        ("created", "applied", None), ("closed", "applied", "logout"),
    ]  # fmt: skip
    assert lines_of("history", "bo", "--log", log) == entries
    assert data_of("history", "bo", "--log", log, "--after", str(entries[0]["offset"]))["records"] == entries[1:]
    result = run("history", KEY, "--log", log, "--limit", "3")
    assert result.stdout.count("applied") == 3
    assert "more records follow: --cursor 4" in result.stderr
    exact = run("history", "bo", "--log", log, "--limit", "2")
    assert "follow" not in exact.stderr


@pytest.mark.parametrize("of", [(), ("--lives",)])
def test_history_as_json_has_the_cursor_of_its_next_page(log: str, of: tuple[str, ...]) -> None:
    with lastseen.open_engine(log, background=False, idle_ttl="9000d") as engine:
        engine.open("bo")
    name = "lives" if of else "records"
    every = data_of("history", "bo", "--log", log, *of)[name]
    assert len(every) == (2 if of else 3)
    rows, cursor = [], "-1"
    while cursor is not None:
        page = data_of("history", "bo", "--log", log, *of, "--limit", "1", "--cursor", str(cursor))
        assert set(page) == {name, "cursor"}
        rows += page[name]
        cursor = page["cursor"]
    assert rows == every


def test_history_has_lives(log: str) -> None:
    (life,) = data_of("history", "bo", "--log", log, "--lives")["lives"]
    assert (life["reason"], life["began_by"], life["ended_by"]) == ("logout", "/gateway", "/gateway")
    assert re.search(r"2023-11-14T22:13:21.000Z +logout", run("history", "bo", "--lives", "--log", log).stdout)


def test_lives_name_the_limit_that_ended_a_session_and_not_who_settled_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    clock = lastseen.ManualClock(1_700_000_000_000)
    with lastseen.open_engine(url, clock=clock, background=False, source="/gateway/telegram") as engine:
        engine.open("chat", policy=lastseen.policy(idle_ttl="5m"))
        clock.advance(3_600_000)
        engine.open("chat")
    shown = run("history", "chat", "--lives", "--log", url).stdout
    assert re.search(r"22:18:20.000Z +idle +/gateway/telegram +the idle limit \(5 min\)", shown), shown
    first, _ = data_of("history", "chat", "--lives", "--log", url)["lives"]
    assert (first["reason"], first["limit_ms"], first["ended_by"]) == ("idle", 300_000, "/gateway/telegram")


def test_ended_sessions_are_found_by_owner_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    clock = lastseen.ManualClock(1_700_000_000_000)
    with lastseen.open_engine(url, clock=clock, background=False, max_sessions=1) as engine:
        for key, owner in (("a", "ana"), ("b", "bo"), ("c", "ana")):
            engine.open(key, attributes={"owner": owner})
            engine.prune()
            clock.advance(60_000)
    ended = ("ls", "--status", "ended", "--log", url)
    assert [each["key"] for each in data_of(*ended)["sessions"]] == ["b", "a"]
    assert [each["key"] for each in data_of(*ended, "--owner", "ana")["sessions"]] == ["a"]
    assert [each["key"] for each in lines_of(*ended, "--since", "2023-11-14 22:15:20")] == ["b"]
    assert [each["key"] for each in lines_of(*ended, "--until", "1700000120000")] == ["a"]
    assert data_of(*ended, "--since", "1h", "--reason", "capacity")["sessions"] == []
    first = run(*ended, "--limit", "1", "-o", "jsonl")
    cursor = re.search(r"--cursor (\S+)", first.stderr)
    assert cursor is not None
    assert [each["key"] for each in lines_of(*ended, "--cursor", cursor[1])] == ["a"]
    assert re.search(r"b +bo +\S+ +\S+ +2023-11-14T22:15:20.000Z +capacity", run(*ended).stdout)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert "2023-11-15T07:15:20.000+09:00" in run(*ended, "--local").stdout
        assert [each["key"] for each in lines_of(*ended, "--since", "2023-11-15 07:15:20", "--local")] == ["b"]
        assert "+09:00 because" in run("explain", "a", "--local", "--log", url).stdout
    finally:
        monkeypatch.undo()
        time.tzset()
    failed(*ended, "--since", "yesterday", exit_code=2, says="a time ago such as 2h")


def test_history_and_ls_within_times_and_of_an_owner(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    clock = lastseen.ManualClock(1_700_000_000_000)  # 2023-11-14T22:13:20Z
    with lastseen.open_engine(url, clock=clock, background=False, idle_ttl="9000d") as engine:
        for key, owner in (("a", "ana"), ("a", "bo"), ("b", "ana"), ("c", "ana"), ("d", "ana")):
            engine.open(key, attributes={"owner": owner})
            clock.advance(60_000)
            if key in "ab":
                engine.close(key)

    def keys(*arguments: str) -> list[str]:
        return [row["key"] for row in data_of("ls", "--log", url, *arguments)["sessions"]]

    assert keys("--since", "2023-11-14T22:17:00Z") == ["d"]
    assert keys("--until", "2023-11-14 22:17") == ["c"]
    records = data_of("history", "a", "--log", url, "--until", "1700000060000")["records"]
    assert [(row["name"], row["at_ms"]) for row in records] == [("created", 1_700_000_000_000)]
    assert len(data_of("history", "a", "--log", url, "--since", "1700000060000")["records"]) == 3
    (life,) = data_of("history", "a", "--owner", "bo", "--log", url)["lives"]
    assert life["began_at_ms"] == 1_700_000_060_000
    for size in ("1", "2", "3", "1000"):
        found, cursor = [], ()
        while cursor is not None:
            page = data_of("history", "--owner", "ana", "--log", url, "--limit", size, *cursor)
            found += [row["key"] for row in page["lives"]]
            cursor = None if page["cursor"] is None else ("--cursor", page["cursor"])
        assert found == ["c", "d", "b", "a"]
    window = ("--since", "1700000130000", "--until", "1700000200000")
    assert [row["key"] for row in data_of("history", "--owner", "ana", "--log", url, *window)["lives"]] == ["c", "b"]
    assert re.search(r"c +\S+ +2023-11-14T22:16:20.000Z +- ", run("history", "--owner", "ana", "--log", url).stdout)
    failed("history", "--log", url, exit_code=2, says="give a KEY, or --owner NAME")
    failed("history", "a", "--log", url, "--cursor", "soon", exit_code=2, says="give an offset")
    failed("ls", "--log", url, "--reason", "idle", exit_code=2, says="add --status ended")


def test_show_has_local_times_on_request(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert "+05:30" in run("show", KEY, "--local", "--log", log).stdout
        assert "+05:30" not in run("show", KEY, "--log", log).stdout
    finally:
        monkeypatch.undo()
        time.tzset()


def test_explain_of_an_earlier_life(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    clock = lastseen.ManualClock(1_700_000_000_000)
    with lastseen.open_engine(url, clock=clock, background=False, idle_ttl="9000d") as engine:
        first = engine.open("chat").session_id
        engine.close("chat", reason="logout")
        clock.advance(60_000)
        engine.open("chat")
    assert run("explain", "chat", "--log", url).stdout.startswith("chat is active")
    for which in (("--at", "2023-11-14T22:13:30Z"), ("--at", "0:2"), ("--session-id", first)):
        assert "chat ended" in run("explain", "chat", "--log", url, *which).stdout, which
    found = data_of("explain", "chat", "--log", url, "--at", "2023-11-14 22:13:30")
    assert (found["reason"], found["last_active_at_ms"], found["policy"]["idle_ttl_ms"]) == (
        "logout", 1_700_000_000_000, 9_000 * 86_400_000,
    )  # fmt: skip
    failed("explain", "chat", "--log", url, "--at", "2022-01-01", exit_code=3, says="No session had begun")
    failed("explain", "chat", "--log", url, "--session-id", "x" * 22, exit_code=3, says="No session x")


def test_history_of_an_unknown_key_is_not_found(log: str) -> None:
    failed("history", "unknown", "--log", log, exit_code=3, says="No record names unknown")
    failed("history", KEY, "--log", log, "--limit", "0", exit_code=2, says="limit")


def test_explain_says_why(log: str) -> None:
    assert run("explain", KEY, "--log", log).stdout.startswith(f"{KEY} is active")
    assert data_of("explain", "bo", "--log", log)["reason"] == "logout"
    assert lines_of("explain", "bo", "--log", log) == [data_of("explain", "bo", "--log", log)]
    failed("explain", "unknown", "--log", log, exit_code=3, says="No record names unknown")


# ── maintenance ──


def test_stats_counts(log: str) -> None:
    report = data_of("stats", "--log", log)
    assert (report["live"], report["created"], report["ended"]) == (3, 4, {"logout": 1})
    assert report["checkpoints"]["0"]["offset"] == report["records"] == 19
    assert lines_of("stats", "--log", log) == [report]
    assert re.search(r"ended\.logout +1", run("stats", "--log", log).stdout)


def test_prune_ends_what_is_due_and_a_dry_run_only_says_so(log: str, tmp_path: Path) -> None:
    before = files(tmp_path)
    planned = data_of("prune", "--dry-run", "--log", log)
    assert (planned["dry_run"], [due["key"] for due in planned["ended"]]) == (True, ["di"])
    result = run("prune", "--dry-run", "--log", log)
    assert re.search(r"di +idle +2023-11-14T22:13:21.000Z", result.stdout)
    assert "dry run" in result.stderr
    assert lines_of("prune", "--dry-run", "--log", log) == planned["ended"]
    assert files(tmp_path) == before
    assert data_of("prune", "--log", log) == {**planned, "dry_run": False}
    assert data_of("prune", "--log", log)["ended"] == []
    assert data_of("explain", "di", "--log", log)["reason"] == "idle"


# ── what all commands share ──

READING = [
    ("ls",), ("show", KEY), ("history", KEY), ("explain", KEY), ("stats",), ("prune", "--dry-run"), ("rebuild",),
    ("verify",),
]  # fmt: skip


@pytest.mark.parametrize("command", READING)
def test_a_command_that_reads_changes_no_file(log: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    before = files(tmp_path)
    for output in ("table", "json", "jsonl"):
        assert run(*command, "--log", log, "--output", output).exit_code == 0
    assert files(tmp_path) == before


@pytest.mark.parametrize("command", READING)
def test_a_command_that_reads_makes_no_log(tmp_path: Path, command: tuple[str, ...]) -> None:
    failed(*command, exit_code=4, says="there is no log at")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", READING)
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "lastseen.db").write_text("dear diary")
    failed(*command, exit_code=4, says="is not a log")
    assert files(tmp_path) == {"lastseen.db": b"dear diary"}


@pytest.mark.parametrize("command", [*READING, ("prune",)])
def test_every_command_works_while_history_is_imported(chat: Path, command: tuple[str, ...]) -> None:
    data_of("replay", str(chat))
    key = [] if len(command) == 1 or command[1].startswith("-") else ["irc:#ubuntu:ana"]
    result = run(command[0], *key, *(each for each in command[1:] if each.startswith("-")))
    assert result.exit_code == 0, result.output


def test_reading_works_beside_the_service_that_writes(log: str) -> None:
    with lastseen.open_engine(log, idle_ttl="9000d", prune=False) as engine:
        engine.create("ed")
        assert "ed" in keys("--log", log)
        assert data_of("rebuild", "--log", log)["ok"]
        engine.touch("ed")
        assert data_of("show", "ed", "--log", log)["version"] == 2


@pytest.mark.parametrize(
    "command",
    [
        *READING, ("prune",), ("close", "a"), ("replay", str(SLICE)), ("export", "history", "a.jsonl"), ("serve",),
        ("doctor",), ("producers", "check"), ("topics", "check"),
    ],
)  # fmt: skip
def test_a_url_of_another_kind_is_named_without_its_password(command: tuple[str, ...], tmp_path: Path) -> None:
    says = "kafka://host" if command[0] == "topics" else "unknown scheme 'redis'; give .*sqlite:///path/to/file.db"
    failed(*command, "--log", "redis://default:hunter2@localhost:6379/0", exit_code=2, says=says)
    assert "hunter2" not in run(*command, "--log", "redis://default:hunter2@localhost:6379/0").stderr
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_does_not_exist_is_said_to_be_none() -> None:
    failed("serve", "--set", "foo=1", exit_code=2, says="--set: there is no setting 'foo'; `lastseen config show`")
    failed("dev", "--set", "idle_tll=1", exit_code=2, says="no setting 'idle_tll'; did you mean idle_ttl")
    failed("config", "show", "--set", "port", exit_code=2, says="--set port: give a value: --set port=VALUE")


@pytest.mark.parametrize(
    ("command", "type_", "exit_code", "says"),
    [
        (("explain", "stranger"), "SessionNotFound", 3, "No record names stranger"),
        (("show", "bo"), "SessionNotFound", 3, "bo ended"),
        (("history", "stranger"), "SessionNotFound", 3, "No record names stranger"),
        (("ls", "--sort", "size"), "InvalidSetting", 2, "sort = 'size'"),
        (("ls", "--colour"), "UsageError", 2, "--colour"),
        (("show",), "UsageError", 2, "KEY"),
        (("history", "bo", "--limit", "0"), "UsageError", 2, "limit"),
        (("lsd",), "UsageError", 2, "No such command"),
        (("verify", "--log", "sqlite:///none.db"), "LogUnavailable", 4, "there is no log at"),
        (("topics", "check", "--log", "sqlite:///none.db"), "InvalidSetting", 2, "Kafka"),
    ],
)
def test_what_fails_with_json_is_json(
    log: str, command: tuple[str, ...], type_: str, exit_code: int, says: str
) -> None:
    for form in (("-o", "json"), ("-ojsonl",), ("--output=JSON",)):
        result = run(*command, *form, env={"LASTSEEN_LOG": log})
        assert result.exit_code == exit_code, result.output
        error = json.loads(result.stdout)["error"]
        assert (error["type"], error["exit_code"]) == (type_, exit_code)
        assert says in error["message"]
        assert says in result.stderr
    assert run(*command, env={"LASTSEEN_LOG": log}).stdout == ""


# ── the executable ──


def executable(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start `lastseen` in a process of its own, by its entry point."""
    entry = "import sys; from lastseen.cli import main; sys.exit(main())"
    # Buffered, as it is for people, with any environment of this process.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    return subprocess.Popen(
        [sys.executable, "-c", entry, *arguments], env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def test_the_entry_point_is_the_one_that_is_installed() -> None:
    assert 'lastseen = "lastseen.cli:main"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_version_and_help() -> None:
    with executable("--version") as process:
        assert process.communicate() == (f"lastseen {lastseen.__version__}\n", "")
    assert "Exit codes: 0" in " ".join(run("--help").stdout.split())
    assert run("-h").exit_code == 0
    assert run().exit_code == 2
    failed("lsd", exit_code=2, says="No such command")


def test_exit_codes_reach_the_shell(log: str) -> None:
    with executable("show", "unknown", "--log", log) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (3, "")
    assert err == "lastseen: No record names unknown: no session ever lived under it.\n"


@pytest.mark.parametrize(("limit", "is_read"), [(400, True), (400, False), (1, False)])
def test_a_reader_that_goes_away_is_no_failure_worth_a_traceback(tmp_path: Path, limit: int, is_read: bool) -> None:
    url = f"sqlite:///{tmp_path / 'many.db'}"
    with lastseen.open_engine(url, background=False) as engine:
        for number in range(limit):
            engine.create(f"key-{number:04d}-{'x' * 400}")
    with executable("ls", "--log", url, "--limit", "400", "-o", "jsonl") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if is_read:
            process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_ctrl_c_leaves_a_replay_that_can_go_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    recording = tmp_path / "chat.jsonl"
    with gzip.open(SLICE) as lines:
        recording.write_bytes(b"".join(islice(lines, 12_000)))
    with executable("replay", str(recording), "--log", url) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("replaying: ")
        process.send_signal(signal.SIGINT)
        assert "interrupted" in process.stderr.read()
    assert process.returncode == 130
    cut = data_of("stats", "--log", url)["records"]
    resumed = data_of("replay", str(recording), "--log", url)
    assert 0 < cut < resumed["records"]
    assert resumed["records_appended"] == resumed["records"] - cut
    assert data_of("rebuild", "--log", url)["ok"]

"""`lastseen ls` on a terminal: one line a row, at whatever width; keys cut in the middle, whole with `--wide`."""

from __future__ import annotations

import json
import platform
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

import lastseen
from lastseen.cli.compact import cut, distance_text, when_text
from lastseen.cli.program import app
from lastseen.engine.errors import LogCorrupt
from lastseen.engine.log.port import Record
from lastseen.engine.log.sqlite.reader import SqliteLogReader

LONG = "telegram:-100123456789:thread-42:user-998877665544332211:device-of-ana-at-home"
WIDE = "chat:日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語:花子"


@pytest.fixture
def log(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url, background=False, idle_ttl="3h") as engine:
        engine.create(LONG, attributes={"owner": "a-very-long-name-of-an-owner@example.org"})
        engine.create(WIDE)
        engine.create("short")
        engine.suspend("short")
        engine.create(f"ended:{LONG}", attributes={"owner": "ana"})
        engine.close(f"ended:{LONG}", reason="logout")
    return url


def lines(*arguments: str, columns: int | None) -> list[str]:
    env = {"COLUMNS": None if columns is None else str(columns)}
    result = CliRunner().invoke(app, ["ls", *arguments], env=env)
    assert result.exit_code == 0, result.output
    return [line.rstrip() for line in result.stdout.splitlines() if line.strip()]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 300])
@pytest.mark.parametrize("local", [(), ("--local",)])
def test_a_session_takes_one_line_at_any_width(log: str, columns: int, local: tuple[str, ...]) -> None:
    heading, rule, *rows = lines("--log", log, *local, columns=columns)
    assert len(rows) == 3
    assert max(cell_len(line) for line in (heading, rule, *rows)) <= columns
    assert rows[0].split()[0].startswith("te")
    assert rows[0].split()[0].endswith("e")
    assert (LONG in rows[0]) is (columns == 300)
    if columns >= 80:
        assert [rows[0].split()[1], rows[2].split()[1]] == ["active", "suspended"]
    ended_heading, _, *ended = lines("--status", "ended", "--log", log, *local, columns=columns)
    assert len(ended) == 1
    assert max(cell_len(line) for line in (ended_heading, *ended)) <= columns
    assert "logout" in ended[0] or columns == 40


def test_times_are_distances_from_now(log: str) -> None:
    found = " ".join(lines("--log", log, columns=120)[2].split())
    assert " ago in 2h 59m idle" in found


def test_wide_and_a_pipe_have_whole_keys_and_times(log: str) -> None:
    for arguments, columns in ((("--wide",), 80), ((), None)):
        text = "\n".join(lines("--log", log, *arguments, columns=columns))
        assert LONG in text
        assert WIDE in text
        assert f"{time.gmtime().tm_year}-" in text


def test_a_table_with_few_rows_is_no_wider_than_it_needs(log: str) -> None:
    assert cell_len(lines("--log", log, "--prefix", "short", columns=200)[2]) < 80


def test_a_text_is_cut_in_the_middle() -> None:
    assert cut("abcdefghij", 10) == "abcdefghij"
    assert cut("abcdefghij", 7) == "abc…hij"
    assert cut("abcdefghij", 8) == "abcd…hij"
    assert cut("日本語日本語", 7) == "日…語"
    assert cut("abcdefghij", 1) == "…"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"), (999, "0s"), (59_999, "59s"), (60_000, "1m"), (61_000, "1m 1s"), (3_600_000, "1h"),
        (11_100_000, "3h 5m"), (86_400_000 * 12 + 14_400_000, "12d 4h"), (86_400_000 * 412 + 3_600_000, "412d"),
    ],
)  # fmt: skip
def test_a_distance_has_its_two_largest_units(ms: int, text: str) -> None:
    assert distance_text(ms) == text


def test_a_time_in_an_import_is_shown_as_it_is() -> None:
    assert when_text(1_136_073_600_000, None, local=False) == "2006-01-01 00:00"
    assert when_text(None, 5, local=False) is None


def test_a_script_reads_the_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, described = (CliRunner().invoke(app, ["version", *form]) for form in ([], ["-o", "json"]))
    assert plain.stdout == f"lastseen {lastseen.__version__}\n"
    found = json.loads(described.stdout)
    assert found["version"] == lastseen.__version__
    assert found["python"] == platform.python_version()
    assert found["libraries"]["eventsourcing"]
    monkeypatch.setattr(sys, "argv", ["lastseen", "version"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("lastseen", run_name="__main__")
    assert (left.value.code, capsys.readouterr().out) == (0, plain.stdout)


@pytest.mark.parametrize(
    ("begun", "completed"),
    [
        ("lastseen exp", {"explain", "export"}),
        ("lastseen ls --lo", {"--log", "--local"}),
        ("lastseen ls --status su", {"suspended"}),
        ("lastseen ls --sort ", {"lru", "deadline", "created"}),
        ("lastseen serve --profile h", {"high_traffic"}),
        ("lastseen token create x --scope a", {"admin"}),
        ("lastseen ls -o js", {"json", "jsonl"}),
    ],
)
def test_a_shell_completes_commands_options_and_values(begun: str, completed: set[str]) -> None:
    words = begun.split(" ")
    env = {"_LASTSEEN_COMPLETE": "complete_bash", "COMP_WORDS": begun, "COMP_CWORD": str(len(words) - 1)}
    assert set(CliRunner().invoke(app, [], env=env, prog_name="lastseen").stdout.split()) == completed


def test_completion_can_be_printed_and_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whichever shell runs the tests.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    script = CliRunner().invoke(app, ["--show-completion", "bash"], prog_name="lastseen")
    assert "_LASTSEEN_COMPLETE=complete_bash" in script.stdout
    assert "complete -o default -F _lastseen_completion lastseen" in script.stdout
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).stdout


@pytest.mark.parametrize("status", [(), ("--status", "ended")])
def test_partitions_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: tuple[str, ...]
) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with lastseen.open_engine(url, background=False, partitions=3) as engine:
        for number in range(12):
            engine.create(f"key-{number}")
            if status:
                engine.close(f"key-{number}")
        here = sorted(key for key in map("key-{}".format, range(12)) if engine.partition_of(key) != 1)
    for name in ("log.db.snapshot", "log.db.history"):
        (tmp_path / name).unlink()
    read = SqliteLogReader.read

    def damaged(self: SqliteLogReader, partition: int, offset: int, limit: int) -> Sequence[Record]:
        if partition == 1:
            raise LogCorrupt("partition 1: the record at offset 1 is damaged")
        return read(self, partition, offset, limit)

    whole = CliRunner().invoke(app, ["ls", *status, "--log", url, "-o", "json"])
    assert "failed_partitions" not in json.loads(whole.stdout)
    assert whole.stderr == ""
    monkeypatch.setattr(SqliteLogReader, "read", damaged)
    found = CliRunner().invoke(app, ["ls", *status, "--log", url, "-o", "json"])
    listed = json.loads(found.stdout)
    assert sorted(each["key"] for each in listed["sessions"]) == here
    assert listed["failed_partitions"] == [1]
    for form in ("json", "jsonl", "table"):
        said = CliRunner().invoke(app, ["ls", *status, "--log", url, "-o", form])
        assert said.exit_code == 0
        assert said.stderr.startswith("partition 1 cannot be read, so its sessions are missing here: partition 1: the")
    compact = CliRunner().invoke(app, ["ls", *status, "--log", url], env={"COLUMNS": "80"})
    assert compact.stderr.startswith("partition 1 cannot be read")

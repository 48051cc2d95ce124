"""`rebuild` and `verify` find what is wrong, whatever it is; and say so with exit code 1."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lastseen
from lastseen.cli.program import app
from lastseen.engine.log.port import Record
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Outcome
from lastseen.projections.snapshot_rows import sealed

LIVE = 5


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with a snapshot, an archive, and a tail that only the log has."""
    path = tmp_path / "service.db"
    clock = lastseen.ManualClock(1_700_000_000_000)
    with lastseen.open_engine(f"sqlite:///{path}", clock=clock, background=False, idle_ttl=None) as engine:
        for number in range(LIVE):
            engine.create(f"key{number}", attributes={"number": number})
            engine.touch(f"key{number}", message="hello")
            clock.advance(1000)
        engine.archive()
        engine.touch("key0")
    with lastseen.open_engine(
        f"sqlite:///{path}", clock=clock, background=False, snapshot=str(tmp_path / "other.snapshot")
    ) as engine:
        engine.touch("key1")
        engine.create("key9")
    return path


def run(command: str, log: Path, output: str = "json") -> Result:
    return CliRunner().invoke(app, [command, "--log", f"sqlite:///{log}", "-o", output])


def change(path: Path, statement: str, *values: Any) -> None:
    """Tamper with a file."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def snapshot_of(log: Path) -> Path:
    return log.with_name(f"{log.name}.snapshot")


def history_of(log: Path) -> Path:
    return log.with_name(f"{log.name}.history")


def flip_a_byte(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def rewrite_session(log: Path, **fields: Any) -> None:
    """Have the snapshot of a session written that is sealed and sound, and wrong."""
    with lastseen.open_engine(f"sqlite:///{log}", background=False) as engine:
        partition = engine._views.partition_of("key0")
        session = partition.find("key0")
        assert session is not None
        for name, value in fields.items():
            assert getattr(session, name) != value
            setattr(session, name, value)
        record = Record(0, 0, 0, "key0", None)
        engine._state.snapshot.follow(partition, [Outcome(record, None, Verdict.APPLIED, 0, session, None, None)])


# ── all is well ──


def test_what_is_right_is_called_right(log: Path) -> None:
    result = run("rebuild", log)
    assert result.exit_code == 0
    rebuilt = json.loads(result.stdout)
    assert rebuilt == rebuilt | {
        "ok": True, "records": 14, "sessions": LIVE + 1, "snapshot_records": 12, "differences": [],
    }  # fmt: skip
    result = run("verify", log)
    assert result.exit_code == 0
    checked = json.loads(result.stdout)
    assert checked["ok"]
    assert [check["what"] for check in checked["checks"]] == [
        "log file", "log records", "genesis", "snapshot", "archive service.db.snapshot.archive-1", "history",
    ]  # fmt: skip
    assert [json.loads(line) for line in run("verify", log, "jsonl").stdout.splitlines()] == checked["checks"]
    assert "digest is the log's" in run("verify", log, "table").stdout
    assert rebuilt["digests"]["0"] in run("rebuild", log, "table").stdout
    assert [json.loads(line) for line in run("rebuild", log, "jsonl").stdout.splitlines()] == [rebuilt]


def test_a_log_without_a_snapshot_is_right_too(log: Path) -> None:
    for path in (snapshot_of(log), history_of(log)):
        path.unlink()
    assert json.loads(run("rebuild", log).stdout)["snapshot_records"] == 0
    assert run("rebuild", log).exit_code == 0
    assert run("verify", log).exit_code == 0


# ── the snapshot is wrong ──

TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a session's version": (lambda log: rewrite_session(log, version=77), "session key0: .*77"),
    "when a session was used": (lambda log: rewrite_session(log, last_active_at_ms=1), "session key0"),
    "whose a session is": (lambda log: rewrite_session(log, owner="eve"), "session key0: .*eve"),
    "an attribute": (
        lambda log: change(snapshot_of(log), "UPDATE attributes SET state = ?", sealed({"number": 99})),
        "session key0: .*99",
    ),
    "a message": (
        lambda log: change(snapshot_of(log), "DELETE FROM messages WHERE row = (SELECT MIN(row) FROM messages)"),
        "session key0: ",
    ),
    "a row that is damaged": (lambda log: change(snapshot_of(log), "UPDATE sessions SET state = x'00'"), "damaged"),
    "a record of the history": (
        lambda log: change(history_of(log), "UPDATE entries SET verdict = 1 WHERE key = 'key3'"), "history, entries",
    ),
    "a life": (lambda log: change(history_of(log), "DELETE FROM lives WHERE key = 'key4'"), "history, lives"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_rebuild_finds_a_snapshot_that_is_wrong(log: Path, name: str) -> None:
    tamper, says = TAMPERED[name]
    tamper(log)
    result = run("rebuild", log)
    assert result.exit_code == 1
    rebuilt = json.loads(result.stdout)
    assert not rebuilt["ok"]
    assert any(re.search(says, difference) for difference in rebuilt["differences"]), rebuilt
    assert rebuilt["differences"][0] in result.stderr


# ── a file is wrong ──


def wrong(log: Path) -> dict[str, str]:
    """What `verify` calls wrong, and what it says of it."""
    result = run("verify", log)
    checked = json.loads(result.stdout)
    assert result.exit_code == (0 if checked["ok"] else 1)
    return {check["what"]: check["says"] for check in checked["checks"] if not check["ok"]}


def test_verify_finds_a_log_that_no_engine_opens(log: Path) -> None:
    change(log, "UPDATE stored_events SET state = ? WHERE originator_version = 0", b"{}")
    assert "does not begin with a genesis record" in wrong(log)["genesis"]
    for each in (snapshot_of(log), history_of(log)):
        each.unlink()
    with pytest.raises(lastseen.errors.NoGenesis):
        lastseen.open_engine(f"sqlite:///{log}")


def test_verify_finds_a_record_that_is_missing(log: Path) -> None:
    change(log, "DELETE FROM stored_events WHERE originator_version = 6")
    assert "offset 6 is missing" in wrong(log)["log records"]


def test_verify_finds_a_log_time_that_goes_back(log: Path) -> None:
    change(log, "UPDATE stored_events SET log_time_ms = 5 WHERE originator_version = 6")
    assert "goes back" in wrong(log)["log records"]


def test_verify_finds_a_record_of_no_partition(log: Path) -> None:
    change(log, "UPDATE stored_events SET originator_id = '7' WHERE originator_version = 12")
    assert "partition '7'" in wrong(log)["log records"]


def test_verify_finds_a_record_that_was_rewritten(log: Path) -> None:
    change(log, "UPDATE stored_events SET state = x'7b7d' WHERE originator_version = 3")
    assert "not the log's" in wrong(log)["snapshot"]
    assert "not the log's" in wrong(log)["archive service.db.snapshot.archive-1"]


def test_verify_finds_a_damaged_snapshot(log: Path) -> None:
    change(snapshot_of(log), "UPDATE partitions SET state = x'0000'")
    assert "checksum" in wrong(log)["snapshot"]


def test_verify_finds_a_snapshot_of_another_log(log: Path) -> None:
    change(snapshot_of(log), "UPDATE meta SET value = 'another' WHERE name = 'identity'")
    assert "another" in wrong(log)["snapshot"]


def test_verify_finds_a_log_that_lost_its_end(log: Path) -> None:
    change(log, "DELETE FROM stored_events WHERE originator_version > 4")
    assert "lost records" in wrong(log)["snapshot"]


def test_verify_finds_a_damaged_archive(log: Path) -> None:
    archive = snapshot_of(log).with_name("service.db.snapshot.archive-1")
    flip_a_byte(archive, 5_000)
    assert "SHA-256" in wrong(log)["archive service.db.snapshot.archive-1"]


def test_verify_finds_what_is_wrong_with_the_history(log: Path) -> None:
    change(history_of(log), "UPDATE meta SET value = 'another' WHERE name = 'identity'")
    assert "belongs to log another" in wrong(log)["history"]
    change(history_of(log), "UPDATE meta SET value = (SELECT value FROM meta WHERE 0) WHERE name = 'identity'")
    change(history_of(log), "DELETE FROM meta WHERE name = 'checkpoint-0'")
    assert "history" in wrong(log)
    history_of(log).unlink()
    assert "is missing" in wrong(log)["history"]


def test_a_history_behind_its_snapshot_is_found(log: Path) -> None:
    change(history_of(log), "UPDATE meta SET value = 3 WHERE name = 'checkpoint-0'")
    assert "older than the snapshot" in wrong(log)["history"]


def test_verify_finds_damaged_pages_of_the_log(log: Path) -> None:
    size = log.stat().st_size
    content = bytearray(log.read_bytes())
    content[size // 2 : size // 2 + 4_096] = b"\xa5" * 4_096
    log.write_bytes(content)
    result = run("verify", log)
    assert result.exit_code in (1, 4)
    assert "damaged" in result.stderr or not json.loads(result.stdout)["ok"]


def test_a_log_of_a_newer_version_is_refused(log: Path) -> None:
    change(log, "UPDATE lastseen_log SET value = 99 WHERE name = 'format'")
    for command in ("rebuild", "ls"):
        result = run(command, log)
        assert result.exit_code == 4
        assert "use a newer lastseen" in result.stderr

"""`lastseen log copy`: what it prints, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lastseen
from lastseen.cli.exit_codes import EXIT_CODES
from lastseen.cli.program import app
from lastseen.copying.copy_plan import LEFT_OUT, CopyPlan
from lastseen.engine.log.port import Message

LIVE = 4


@pytest.fixture
def source(tmp_path: Path) -> str:
    """The URL of a log in two partitions, with a live session more than have ended."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    with lastseen.open_engine(url, background=False, partitions=2) as engine:
        for number in range(LIVE + 1):
            engine.create(f"key{number}", attributes={"number": number})
            engine.touch(f"key{number}", message="hello")
        engine.close("key0")
    return url


@pytest.fixture
def target(tmp_path: Path) -> str:
    """The URL of a log that is not there yet."""
    return f"sqlite:///{tmp_path / 'new.db'}"


def run(*arguments: str) -> Result:
    """Run `lastseen log copy …`."""
    return CliRunner().invoke(app, ["log", "copy", *arguments])


def data_of(*arguments: str, exit_code: int = 0) -> Any:
    """What it prints with `-o json`."""
    result = run(*arguments, "-o", "json")
    assert result.exit_code == exit_code, result.stderr
    return json.loads(result.stdout)


def listed(url: str) -> Any:
    """What `lastseen ls` shows of a log."""
    return json.loads(CliRunner().invoke(app, ["ls", "--log", url, "-o", "json"]).stdout)["sessions"]


def test_a_copy_shows_the_same_sessions(source: str, target: str) -> None:
    copied = data_of(source, f"{target}?partitions=3")
    assert copied == copied | {
        "ok": True, "records": 13, "copied": {"applied": 11}, "left_out": {"log_event": 2}, "live": LIVE,
        "records_in_copy": 17, "records_appended": 17, "records_not_copied_yet": 0,
        "partitions": {"source": 2, "copy": 3},
        "open_for_import": False, "differing": 0, "differences": [],
    }  # fmt: skip
    one, other = ({each["key"]: each for each in listed(url)} for url in (source, target))
    for session in (*one.values(), *other.values()):
        del session["position"]
    assert one == other
    assert len(one) == LIVE


def test_started_again_it_finds_everything_there(source: str, target: str) -> None:
    written = data_of(source, target)["records_in_copy"]
    assert data_of(source, target)["records_appended"] == 0
    result = run(source, target)
    assert result.exit_code == 0
    assert re.search(rf"found there already +{written} ", result.stdout)
    assert re.search(r"copied: applied +11 ", result.stdout)


def test_a_copy_may_be_left_open(source: str, target: str) -> None:
    assert data_of(source, target, "--leave-open")["open_for_import"] is True
    assert data_of(source, target)["records_appended"] == 2


def test_later_records_are_reported(source: str, target: str) -> None:
    run(source, target)
    with lastseen.open_engine(source, background=False) as engine:
        engine.touch("key1")
    result = run(source, target, "-o", "json")
    assert json.loads(result.stdout)["records_not_copied_yet"] == 1
    assert "has accepted 1 records since the copy began" in result.stderr


def test_a_broken_copy_is_named_and_ends_with_1(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = CopyPlan._take

    def take(self: CopyPlan, outcome: Any) -> Message | None:
        message = real(self, outcome)
        return None if message is not None and message.key == "key3" else message

    monkeypatch.setattr(CopyPlan, "_take", take)
    copied = data_of(source, f"{target}-1", exit_code=1)
    assert copied["ok"] is False
    assert ["session", "key3", "1 live", "0 live"] in [list(each.values()) for each in copied["differences"]]
    result = run(source, f"{target}-2")
    assert result.exit_code == 1
    assert "Differences" in result.stdout
    assert "key3" in result.stdout
    assert "differs from its source in" in result.stderr
    result = run(source, f"{target}-3", "-o", "jsonl")
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (1, False)


def test_what_is_left_out_is_explained(source: str, target: str) -> None:
    run(source, target)
    result = run(target, f"{target}-2")
    assert f"left out: log_event ({LEFT_OUT['log_event']})" in result.stdout


def test_refusals_end_with_their_codes(source: str, target: str, tmp_path: Path) -> None:
    assert run(source, source).exit_code == 2
    assert run(source, "nonsense").exit_code == 2
    missing = run(f"sqlite:///{tmp_path / 'none.db'}", target)
    assert missing.exit_code == 4
    assert not Path(target.removeprefix("sqlite:///")).exists()
    with lastseen.open_engine(target, background=False) as engine:
        engine.create("ana")
    refused = run(source, target)
    assert refused.exit_code == 4
    assert "or a new one" in refused.stderr
    ahead = lastseen.ManualClock(lastseen.SystemClock().now_ms() + 3_600_000)
    with lastseen.open_engine(source, background=False, clock=ahead) as engine:
        engine.create("from the future")
    assert run(source, f"{target}-2").exit_code == 3
    assert "clock" in EXIT_CODES[3]

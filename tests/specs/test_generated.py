"""Generated files say what the code says. Where they do not: `python -m lastseen.docs`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lastseen.docs import COMMAND, generated, stale, write
from lastseen.docs.__main__ import main
from lastseen.docs.advice import ADVICE
from lastseen.docs.errors_page import error_tree
from lastseen.docs.lifecycle_page import verdict_notes
from lastseen.docs.lifecycle_picture import transitions
from lastseen.engine import errors
from lastseen.engine.events import STORED_EVENTS
from lastseen.engine.lifecycle import rows
from lastseen.engine.session import Status
from lastseen.engine.verdicts import Verdict

ROOT = Path(__file__).resolve().parents[2]


def test_no_generated_file_is_stale() -> None:
    assert stale(ROOT) == [], f"run: {COMMAND}"


def test_a_stale_a_missing_and_a_left_over_file_are_found_and_repaired(tmp_path: Path) -> None:
    paths = list(generated())
    assert sorted(write(tmp_path)) == sorted(paths)
    assert stale(tmp_path) == []
    (tmp_path / paths[0]).write_text("old", encoding="utf-8")
    (tmp_path / paths[2]).unlink()
    left_over = "engine/schemas/lastseen.session.renamed.v1.json"
    (tmp_path / left_over).write_text("{}", encoding="utf-8")
    assert stale(tmp_path) == sorted([paths[0], paths[2], left_over])
    assert write(tmp_path) == sorted([paths[0], paths[2], left_over])
    assert stale(tmp_path) == []
    assert write(tmp_path) == []


def test_the_command_checks_writes_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["--check"]) == 0
    (tmp_path / "engine").mkdir()
    shutil.copy(ROOT / "engine/lifecycle.py", tmp_path / "engine/lifecycle.py")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["--check"]) == 1
    said = capsys.readouterr()
    assert said.err == f"run: {COMMAND}\n"
    assert "stale: docs/reference/lifecycle.md\n" in said.out
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert main(["--chekc"]) == 2
    monkeypatch.chdir(tmp_path / "engine")
    assert main(["--check"]) == 2


@pytest.mark.thorough
def test_another_process_generates_the_same() -> None:
    """The seed of hashes and the order of imports are its own."""
    command = [sys.executable, "-m", "lastseen.docs", "--check"]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_row_and_every_verdict_is_on_the_page() -> None:
    page = generated()["docs/reference/lifecycle.md"]
    for rule in rows():
        assert f"\n| {rule.name} |" in page
    assert set(verdict_notes()) == set(Verdict)
    for verdict, note in verdict_notes().items():
        assert f"| `{verdict.label}` | {verdict.value} | {note} |" in page


def test_the_picture_shows_every_transition_of_the_table() -> None:
    picture = generated()["docs/pictures/lifecycle.svg"]
    shown = [label for labels in transitions().values() for label in labels]
    assert sorted(re.findall(r'<text [^>]*class="soft"[^>]*>([^<]*)</text>', picture)) == sorted([*shown, "final"])
    assert {rule.name for rule in rows()} - set(shown) == {"expired (idle, max_age, suspend_ttl)"}, "shown as: due"
    assert {(before, after) for before, after in transitions() if before is after} == {(Status.ACTIVE, Status.ACTIVE)}


def test_each_error_has_advice_and_each_message_is_found() -> None:
    page = generated()["docs/troubleshooting.md"]
    concrete = {name for name in errors.__all__ if name not in ("LastseenError", "Refused", "shown")}
    assert set(ADVICE) == concrete
    for name in concrete:
        assert f"\n## {name}\n" in page
    assert "| cannot listen on …:…: … |" in page
    assert "| session key …: give text of 1 to 512 characters without control characters |" in page
    assert "| session key …: 16 holders have live leases, and that is the limit; release one" in page


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = [line[4:] for line in (errors.__doc__ or "").splitlines() if re.match(r" +[│├└L]", line)]
    assert [re.sub(r"(\w) {2,}.*", r"\1", line) for line in drawn] == list(error_tree())


@pytest.mark.parametrize("kind", STORED_EVENTS)
def test_each_stored_event_has_a_schema_with_its_own_type(kind: type) -> None:
    name = kind.__dataclass_fields__["type"].default  # type: ignore[attr-defined]
    schema = json.loads((ROOT / f"engine/schemas/{name}.json").read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["title"], schema["properties"]["type"]) == (name, {"const": name, "type": "string"})
    assert {"specversion", "id", "source", "type", "subject", "time"} <= set(schema["required"])
    assert "default" not in schema["properties"]["specversion"]

"""The subjects of the live benchmarks, held against the naive roll of who is live: they are to do the same work."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.agreement import disagreements
from benchmarks.mix import Operation
from benchmarks.peers.kinds import KIND, KINDS, Kind, opened
from benchmarks.peers.ordered import Ordered
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-bench" / "bin" / "python"
EXACT = [kind for kind in KINDS if kind.module in ("engine", "ordered")]


def test_every_peer_that_is_installed_agrees_with_the_roll() -> None:
    """In the environment of the benchmarks, which has the peers."""
    assert PYTHON.exists(), "the peers are not installed: make bench-setup"
    done = subprocess.run(
        [str(PYTHON), "-m", "benchmarks.agreement"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    found = {answer["kind"]: answer for answer in map(json.loads, done.stdout.splitlines())}
    assert list(found) == [kind.name for kind in KINDS], done.stderr
    assert {name: answer["disagrees"] for name, answer in found.items() if answer.get("disagrees")} == {}
    missing = {name for name, answer in found.items() if "missing" in answer}
    assert missing <= {"redis, redis-py"}, "only what needs a server may be missing"


@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.name)
def test_the_engine_and_the_floor_agree_with_the_roll(kind: Kind, tmp_path: Path) -> None:
    assert list(disagreements(kind, tmp_path)) == []


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        ("close", lambda self, key: None),
        ("touch", lambda self, key: self.sessions.move_to_end(key, last=False)),
        ("create", lambda self, key: None),
        ("suspend", lambda self, key: self.sessions.pop(key)),
        ("live", lambda self: 1),
    ],
)
def test_an_adapter_that_does_not_do_its_work_is_found(
    method: str, broken: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ordered, method, broken)
    try:
        found = list(disagreements(KIND["OrderedDict"], tmp_path))
    except KeyError as error:
        found = [str(error)]
    assert found


def test_touches_without_waiting_callers_are_done(tmp_path: Path) -> None:
    """Else the figures would be those of doing nothing."""
    for kind in EXACT[:2]:
        folder = tmp_path / kind.maker
        folder.mkdir()
        with opened(kind, folder, ["a", "b"], 10) as subject:
            for _ in range(5):
                subject.touch("a")
            subject.batch([Operation("touch", "a"), Operation("touch", "b")])
            subject.settle()
            assert [subject.read(key).version for key in ("a", "b")] == [7, 2]  # type: ignore[attr-defined]


def test_suspended_sessions_are_spared_and_the_engine_is_never_its_own_barriers_victim(tmp_path: Path) -> None:
    for kind in EXACT:
        folder = tmp_path / kind.maker
        folder.mkdir()
        with opened(kind, folder, ["a", "b", "c"], 3) as subject:
            subject.suspend("a")
            for key in "defg":
                subject.create(key)
            subject.settle()
            assert {key for key in "abcdefg" if subject.read(key) is not None} == {"a", "f", "g"}, kind.name
            subject.resume("a")
            subject.settle()
            assert (subject.read("a") is not None, subject.live()) == (True, 3)

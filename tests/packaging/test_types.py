"""Users' type checkers see the types of the installed wheel: each reveal is as the program says, each mistake found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from building import Installed, clean_environment

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parent
PROGRAM, MISTAKES = "typed_program.py", "typed_mistakes.py"
_EXPECTED = re.compile(r"^\s*reveal_type\(.*\)  # (.+)$")
_NAMED_TUPLE = re.compile(r"tuple\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*, fallback=([\w.]+)\]")
"""How mypy writes a named tuple; what it names last is the class."""

Seen = tuple[dict[int, str], list[int]]
"""What a checker has found in a file: line → type revealed, and the lines of its errors."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with an `engine.py` and `projections/` of its own."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "engine.py").write_text('OWN: str = "my engine"\n', encoding="utf-8")
    (folder / "projections").mkdir()
    (folder / "projections" / "__init__.py").write_text('OWN: str = "my projections"\n', encoding="utf-8")
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    for name in (PROGRAM, MISTAKES):
        (folder / name).write_text((HERE / name).with_suffix(".txt").read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def by_mypy(file: str, app: Path, installed: Installed) -> Seen:
    """What `mypy --strict` sees."""
    reported = checker(
        "mypy", "--strict", "--python-executable", installed.python, "--cache-dir", app / "cache", file, cwd=app
    )
    revealed: dict[int, str] = {}
    faulty: list[int] = []
    for line in reported.splitlines():
        found = re.match(r'[\w.]+:(\d+): (note: Revealed type is "(.*)"|error: )', line)
        if found is not None and found[3] is not None:
            revealed[int(found[1])] = short(found[3])
        elif found is not None:
            faulty.append(int(found[1]))
    return revealed, faulty


def by_pyright(file: str, app: Path, installed: Installed) -> Seen:
    """What pyright sees, in strict mode."""
    reported = checker("basedpyright", "--outputjson", "--pythonpath", installed.python, file, cwd=app)
    revealed: dict[int, str] = {}
    faulty: list[int] = []
    for found in json.loads(reported)["generalDiagnostics"]:
        line = found["range"]["start"]["line"] + 1
        reveal = re.fullmatch(r'Type of ".*" is "(.*)"', found["message"], re.DOTALL)
        if reveal is not None:
            revealed[line] = reveal[1]
        elif found["severity"] == "error" and found.get("rule") != "reportUnusedExpression":
            faulty.append(line)
    return revealed, faulty


def checker(name: str, *arguments: str | Path, cwd: Path) -> str:
    """What a checker prints: 0 says that it found nothing wrong, 1 that it did; else it has failed itself."""
    ended = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    return ended.stdout


def short(name: str) -> str:
    """A type as people write it: without modules, named tuples by their name."""
    while (without := _NAMED_TUPLE.sub(r"\1", name)) != name:
        name = without
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", name)


def lines_of(file: str) -> list[tuple[int, str]]:
    return list(enumerate((HERE / file).with_suffix(".txt").read_text(encoding="utf-8").splitlines(), start=1))


Checker = Callable[[str, Path, Installed], Seen]


@pytest.mark.parametrize("check", [by_mypy, by_pyright])
def test_types_are_those_that_a_user_expects(check: Checker, app: Path, installed: Installed) -> None:
    wanted = {number: found[1] for number, line in lines_of(PROGRAM) if (found := _EXPECTED.match(line)) is not None}
    assert len(wanted) > 40
    revealed, faulty = check(PROGRAM, app, installed)
    assert revealed == wanted
    assert faulty == []


@pytest.mark.parametrize("check", [by_mypy, by_pyright])
def test_a_users_mistakes_are_found(check: Checker, app: Path, installed: Installed) -> None:
    wanted = {number for number, line in lines_of(MISTAKES) if line.endswith("# mistake")}
    assert len(wanted) > 10
    revealed, faulty = check(MISTAKES, app, installed)
    assert revealed == {}
    assert set(faulty) == wanted

"""No test is lost between the commands that run tests: each test is run by exactly one of them."""

from __future__ import annotations

import itertools
import re
import tomllib

import pytest
from _pytest.mark.expression import Expression
from sources import ROOT

MARKS = ("thorough", "full")
COMMANDS = {"test": '-m "(.+)"', "test-all": '-m "(.+)"', "replay-check": "-m (full)$"}


def recipe(target: str) -> str:
    """The command by which a target runs pytest, outside the folder of the house rules."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert found, target
    lines = [line for line in found[1].splitlines() if "pytest" in line.lower()]
    assert len(lines) == 1, target
    return lines[0]


@pytest.mark.parametrize("marks", [set(each) for n in range(3) for each in itertools.combinations(MARKS, n)])
def test_each_test_is_run_by_one_command(marks: set[str]) -> None:
    if marks == set(MARKS):
        marks = {"full"}  # a test of the whole recording is in no other tier
    runs = []
    for target, chosen in COMMANDS.items():
        expression = re.search(chosen, recipe(target))
        assert expression, target
        if Expression.compile(expression[1]).evaluate(lambda name, **_: name in marks):
            runs.append(target)
    assert len(runs) == 1


def test_both_tiers_look_everywhere_but_at_what_check_runs() -> None:
    shared = re.search(r"^PYTEST := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert shared
    assert re.findall(r"--ignore\S*|--deselect\S*|-k \S+|tests/\S+", shared[1]) == ["--ignore=tests/style"]
    for target in ("test", "test-all"):
        assert re.fullmatch(r"\t\$\(PYTEST\) -m \"[^\"]+\"", recipe(target))
    checks = re.search(r"^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert checks
    assert "house-rules" in checks[1].split()
    assert recipe("house-rules").endswith("pytest tests/style")


def test_the_marks_are_these() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert {each.partition(":")[0] for each in options["markers"]} == set(MARKS)

"""`docs/security.md` says what the code does: its limits are the defaults, its items those of the chapter."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from lastseen.auth.caller import Scope
from lastseen.http.guard.guard import OPEN_PATHS
from lastseen.http.guard.limits import Limits

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
ITEMS = {"7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 3, "7.6": 2}
"""How many items each section of the chapter has."""


def test_every_limit_is_there_with_its_default() -> None:
    said = {}
    for row in re.findall(r"^\| (`.*?) \| (.*?) \| .* \|$", PAGE, re.MULTILINE):
        names = re.findall(r"`(\w+)`", row[0])
        if names and hasattr(Limits(), names[0]):
            said |= dict(zip(names, row[1].split(", "), strict=True))
    real = {field.name: getattr(Limits(), field.name) for field in fields(Limits)}
    assert said == {name: "none" if value is None else str(value) for name, value in real.items()}


def test_every_item_of_the_chapter_is_answered_twice() -> None:
    rows = re.findall(r"^\| (7\.\d\.\d) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert [row[0] for row in rows] == [f"{part}.{n}" for part, count in ITEMS.items() for n in range(1, count + 1)]
    assert all(engine != "–" or caller != "–" for _, _, engine, caller in rows)


def test_scopes_open_paths_and_tests_that_are_named_are_there() -> None:
    assert re.findall(r"^\| `(\w+)` \| [a-z]+.*[:,]", PAGE, re.MULTILINE)[: len(Scope)] == list(Scope)
    assert all(f"`{path}`" in PAGE for path in OPEN_PATHS)
    named = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)
    assert named
    assert all((ROOT / path).is_file() for path in named)

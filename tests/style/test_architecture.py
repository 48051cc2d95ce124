"""ARCHITECTURE.md describes this tree: its rooms and paths are there, and each lock rule has a test."""

from __future__ import annotations

import re

import pytest
from sources import ROOT
from test_layers import LEVELS

PAGE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")


def test_the_table_of_rooms_is_that_of_the_layers() -> None:
    table = re.findall(r"^\| (\d) \| `(\w+)` \| \S", PAGE, re.MULTILINE)
    assert {room: int(level) for level, room in table} == LEVELS
    assert len(table) == len(LEVELS)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:engine|projections|lastseen|tests|benchmarks|infra|docs)/[\w/.-]*)", PAGE)))
)
def test_a_path_exists(path: str) -> None:
    assert (ROOT / path).exists(), path


def lock_rules() -> dict[int, str]:
    """The text of each numbered rule."""
    section = PAGE.partition("## Threads and locks")[2].partition("\n## ")[0]
    return {int(number): text for number, text in re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", section, re.M | re.S)}


def test_the_lock_rules_are_numbered() -> None:
    assert list(lock_rules()) == list(range(1, len(lock_rules()) + 1))
    assert len(lock_rules()) >= 5


@pytest.mark.parametrize("rule", lock_rules().values(), ids=[str(number) for number in lock_rules()])
def test_a_lock_rule_names_a_test_that_exists(rule: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", rule)
    assert named
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"{path}::{name}"


def test_every_entry_point_names_a_file() -> None:
    section = PAGE.partition("## Entry points")[2].partition("\n## ")[0]
    points = re.findall(r"^- \*\*(?:a|an) ([^*]+)\*\*:(.*?)(?=^- |\Z)", section, re.M | re.S)
    assert {"touch", "expiry", "HTTP request", "restart", "Kafka append", "owner change"} <= {
        name for name, _ in points
    }
    assert [name for name, text in points if ".py`" not in text] == []

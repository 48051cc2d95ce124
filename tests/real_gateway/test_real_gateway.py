"""The real gateway with the drop-in in its store's place: each story in a process of its own (stories.py)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.real_gateway.environment import run

pytestmark = pytest.mark.thorough
STORIES = Path(__file__).parent / "stories.py"
NAMES = [each.name for each in ast.parse(STORIES.read_text("utf-8")).body if isinstance(each, ast.AsyncFunctionDef)]


@pytest.mark.parametrize("name", NAMES)
def test_story(name: str, tmp_path: Path) -> None:
    run(STORIES, name, home=tmp_path)

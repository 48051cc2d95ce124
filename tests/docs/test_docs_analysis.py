"""The page on the analysis of sessions: its code is executed, and draws the very pictures that the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.story import Story

PAGE = DOCS / "how-to" / "analyse.md"
PICTURES = ("analyse-durations.svg", "analyse-hours.svg")


@pytest.mark.thorough
def test_the_page_draws_its_pictures(tmp_path: Path) -> None:
    story = Story(tmp_path)
    try:
        for block in blocks(PAGE):
            story.read(block)
    finally:
        story.close()
    for name in PICTURES:
        assert (tmp_path / name).read_text("utf-8") == (DOCS / "pictures" / name).read_text("utf-8"), name

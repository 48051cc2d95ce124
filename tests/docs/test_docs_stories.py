"""Every page of the documentation is done as a reader would: its code, its commands, its files, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka_fixtures import SharedBroker

from tests.docs.pages import DOCS, Block, blocks, commands, is_shown, pages
from tests.docs.story import Story

EXECUTED = {"python", "console", "toml"}
ELSEWHERE = {
    "how-to/analyse.md": "tests/docs/test_docs_analysis.py",
    "how-to/compat-gateway.md": "tests/docs/test_code_blocks.py",
    "how-to/compat-lru.md": "tests/compat/test_lru.py",
    "how-to/producers.md": "tests/kafka/test_producer_clients.py",
    "how-to/compat-manager.md": "tests/compat/test_manager.py and test_manager_javascript.py",
}
"""Pages whose code needs something around it, and the test that runs it."""
COMPARED = {"promql": "test_docs_runbooks.py compares it with the rules", "text": "a drawing, compared or generated"}
NAMES = {page: page.relative_to(DOCS).as_posix() for page in pages()}
FIRST = ("index.md", "quick-start/", "concepts/")
STORIES = {name: page for page, name in NAMES.items() if name not in ELSEWHERE and blocks(page)}


@pytest.fixture(scope="module")
def runbooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One service for all runbooks: they only look at it."""
    story = Story(tmp_path_factory.mktemp("runbooks"))
    yield story
    story.close()


def story_of(name: str) -> object:
    """A page as a parameter: those that a newcomer reads first are done with every change, the others thoroughly."""
    return pytest.param(name, marks=() if name.startswith(FIRST) else pytest.mark.thorough)


@pytest.mark.parametrize("name", [story_of(name) for name in STORIES if not name.startswith("runbooks/")])
def test_a_page_does_what_it_says(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found = blocks(STORIES[name])
    broker: SharedBroker | None = None
    if any("localhost:9092" in block.text for block in found):
        broker = request.getfixturevalue("kafka_broker")
    story = Story(tmp_path, None if broker is None else broker.address)
    try:
        for block in found:
            story.read(block)
    finally:
        story.close()


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in STORIES if name.startswith("runbooks/")])
def test_a_runbook_can_be_followed(name: str, runbooks: Story) -> None:
    found = blocks(STORIES[name])
    assert sum(len(commands(block)) for block in found if block.language == "console") >= 1
    for block in found:
        runbooks.read(block)


@pytest.mark.parametrize("page", pages(), ids=NAMES.values())
def test_no_block_is_merely_shown(page: Path) -> None:
    for block in blocks(page):
        where = f"{NAMES[page]}:{block.line}"
        if NAMES[page] not in ELSEWHERE:
            assert block.language in EXECUTED | COMPARED.keys(), f"{where}: nothing executes {block.language}"
            assert block.language != "toml" or block.title, f"{where}: give the file a title"
    assert page.read_text(encoding="utf-8").count("\n```") == 2 * len(blocks(page)), "a fence that is not understood"


@pytest.mark.parametrize(
    ("output", "shown", "is_so"),
    [
        ("a 1\n", "a 1\n", True),
        ("a    1  \n\nb\n", "a 1\nb\n", True),
        ("a 1\n", "a …\n", True),
        ("a 1\nb\n", "a …\n", False),
        ("a 1\nb\nc\n", "…\nc\n", True),
        ("a\n", "…\n", True),
        ("a 2\n", "a 1\n", False),
        ("(x)\n", "(x)\n", True),
        ("xx\n", "(x)+\n", False),
    ],
)
def test_output_is_compared(output: str, shown: str, is_so: bool) -> None:
    assert is_shown(output, shown) is is_so


def test_a_page_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    wrong = {
        "python": "raise SystemExit(3)\n",
        "console": "$ lastseen ls --no-such-option\n",
        "toml": "no_such_setting = 1\n",
    }
    for language, text in wrong.items():
        story = Story(tmp_path)
        title = "lastseen.toml" if language == "toml" else None
        with pytest.raises(AssertionError):
            story.read(Block(1, language, title, text))
    with pytest.raises(AssertionError, match="the page has"):
        Story(tmp_path).read(Block(1, "console", None, "$ echo one\ntwo\n"))
    with pytest.raises(AssertionError):
        Story(tmp_path).read(Block(1, "console", None, "$ pip install lastseen[no-such-extra]\n"))
    with pytest.raises(AssertionError, match="no target"):
        Story(tmp_path).read(Block(1, "console", None, "$ make no-such-target\n"))

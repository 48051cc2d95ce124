"""Nothing stands in the product that nothing uses: what only a test calls is dead, unless the documentation offers it.

Names are compared and not what they stand for, so a dead one may hide behind a living namesake; none is blamed wrongly.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

import pytest
from sources import PRODUCT, Source, python_files, text_files

OFFERED_IN = re.compile(r"(README|ARCHITECTURE)\.md|docs/(?!decisions/).*\.md")
"""Users of the library read these; what they name is for callers."""
DROP_INS = ("lastseen/compat/gateway", "lastseen/compat/manager")
"""They have every name that their predecessors had, for callers that are not ours."""
LONGEST_NAME = 60

Definition = tuple[int, str]


def used_names(sources: Iterable[Source]) -> set[str]:
    """The names that these files read, hand on, or spell out in a string, as `getattr` and `__all__` do."""
    used: set[str] = set()
    for source in sources:
        for node in ast.walk(source.tree()):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                used.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                used.update(alias.name for alias in node.names if alias.asname is not None)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < LONGEST_NAME:
                used.update(re.findall(r"\w+", node.value))
    return used


def offered_names(sources: Iterable[Source]) -> set[str]:
    """The names in the documentation that its readers are meant to use: those that stand in code."""
    used: set[str] = set()
    for source in sources:
        if OFFERED_IN.fullmatch(source.path):
            for code in re.findall(r"```.*?```|`[^`\n]+`", source.text, re.DOTALL):
                used.update(re.findall(r"\w+", code))
    return used


def own_classes(sources: Iterable[Source]) -> set[str]:
    """The classes of these files: a method of a class with another base may be there for that base to call."""
    found = (node for source in sources for node in ast.walk(source.tree()))
    return {node.name for node in found if isinstance(node, ast.ClassDef)} | {"object", "Protocol", "Generic"}


def definitions(source: Source, ours: set[str]) -> Iterator[Definition]:
    """The functions, classes, constants, methods and attributes that a file defines, without those that a decorator
    has taken, that a foreign base may call, or that reflection reads (fields)."""
    for node in source.tree().body:
        yield from _defined(node)
        if isinstance(node, ast.ClassDef):
            bases = {each.value if isinstance(each, ast.Subscript) else each for each in node.bases}
            if all(isinstance(base, ast.Name) and base.id in ours for base in bases):
                for member in node.body:
                    if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield from _defined(member)
                        yield from _attributes(member)


def _defined(node: ast.stmt) -> Iterator[Definition]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        if not any(isinstance(each, ast.Call) and not isinstance(node, ast.ClassDef) for each in node.decorator_list):
            yield node.lineno, node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                yield node.lineno, target.id


def _attributes(method: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Definition]:
    for node in ast.walk(method):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield node.lineno, node.attr


def dead_names(sources: Iterable[Source], documents: Iterable[Source]) -> Iterator[str]:
    """What is defined, and neither used nor offered."""
    sources = list(sources)
    alive = used_names(sources) | offered_names(documents)
    ours = own_classes(sources)
    for source in sources:
        if not source.is_in(*DROP_INS):
            for line, name in definitions(source, ours):
                if name not in alive and not (name.startswith("__") and name.endswith("__")):
                    yield f"{source.path}:{line} {name}: nothing in the product uses it, and no page offers it"


def test_every_name_is_used_or_offered() -> None:
    faults = list(dead_names(python_files(*PRODUCT), text_files()))
    assert not faults, "\n".join(faults)


DEAD = [
    "LIMIT = 1",
    "LIMIT: int = 1",
    "def due(): ...",
    "class Kept: ...",
    "class Kept:\n    def due(self): ...\nKept",
    "class Kept:\n    @property\n    def due(self): ...\nKept",
    "class Old: ...\nclass Kept(Old):\n    def due(self): ...\nKept",
    "class Kept:\n    def __init__(self):\n        self.due = 0\nKept",
    "class Kept:\n    def __init__(self):\n        self.due = 0\n        self.due += 1\nKept",
]


@pytest.mark.parametrize("text", DEAD)
def test_a_dead_name_is_found(text: str) -> None:
    assert set(dead_names([Source("engine/x.py", text)], [])) != set()


ALIVE = [
    "LIMIT = 1\nprint(LIMIT)",
    "def due(): ...\n__all__ = ['due']",
    "def due(): ...\ngetattr(x, 'due')()",
    "def __getattr__(name): ...",
    "@app.command()\ndef due(): ...",
    "class Kept(library.Base):\n    def due(self): ...\nKept",
    "class Kept(Struct):\n    due: int\n    def said(self): ...\nKept",
    "class Kept:\n    due: int = 0\nKept",
    "class Kept:\n    def due(self): ...\nKept().due()",
]


@pytest.mark.parametrize("text", ALIVE)
def test_a_living_name_is_left_alone(text: str) -> None:
    assert list(dead_names([Source("engine/x.py", text)], [])) == []


def test_what_a_page_offers_is_not_dead() -> None:
    source, page = Source("engine/x.py", "def due(): ..."), Source("docs/use.md", "Call `engine.due()`.")
    assert list(dead_names([source], [page])) == []
    assert list(dead_names([source], [page._replace(text="What is due.")])) != []
    assert list(dead_names([source], [page._replace(path="docs/decisions/0001-x.md")])) != []

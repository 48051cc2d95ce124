"""What is declared is imported, and what is imported is declared: an installation has only what is used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("engine", "projections", "lastseen")
IMPORTED_AS = {
    "backports.zstd": "backports",
    "kafka-python": "kafka",
    "opentelemetry-api": "opentelemetry",
    "prometheus-client": "prometheus_client",
}
"""Where the two names differ."""
LOADED_BY_OTHERS = {
    "crc32c": "kafka",  # checks each batch with it, and takes a thousand times as long without
    "httptools": "uvicorn",  # parses requests with it; our limits of a request's head are set on that parser
}
"""What a dependency loads if it is there, and that we count on: package → who loads it."""
COMES_WITH = {"starlette": "fastapi", "anyio": "fastapi"}
"""What a dependency is made of and gives to its users: its own types in our signatures."""
NEWER_STANDARD_LIBRARY = {"compression"}
"""What a Python newer than the one that runs this test brings along."""
BROUGHT_BY_USERS = {"flask": "an application that has no Flask has no use for a session interface of Flask"}


def product() -> Iterator[Path]:
    """The product's modules, each once: the links in `lastseen/` are not followed."""
    for folder in PRODUCT:
        found = (ROOT / folder).rglob("*.py")
        yield from (path for path in found if not any(parent.is_symlink() for parent in path.parents))


def imported() -> set[str]:
    """The top-level names of other people's packages that the product imports, wherever in a module."""
    names: set[str] = set()
    for path in product():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).partition(".")[0])
    return names - sys.stdlib_module_names - {"lastseen", *NEWER_STANDARD_LIBRARY}


def declared() -> dict[str, str]:
    """The dependencies and extras of pyproject.toml: import name → name on the index."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    found = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    return {IMPORTED_AS.get(name, name): name for name in found}


def test_every_dependency_is_imported_or_has_a_reason() -> None:
    assert set(declared()) - imported() == set(LOADED_BY_OTHERS)


def test_every_import_is_declared() -> None:
    assert imported() - set(declared()) == set(COMES_WITH) | set(BROUGHT_BY_USERS)
    assert set(COMES_WITH.values()) <= set(declared())


@pytest.mark.parametrize(("name", "loader"), LOADED_BY_OTHERS.items())
def test_what_others_load_they_do_load(name: str, loader: str) -> None:
    found = find_spec(loader)
    assert found is not None
    assert found.origin is not None
    sources = [path.read_text(encoding="utf-8") for path in Path(found.origin).parent.rglob("*.py")]
    assert any(re.search(rf"^\s*(?:import|from) {name}\b", source, re.MULTILINE) for source in sources)

"""The files that the house rules are held against: those git tracks, and those it would on the next `git add`."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("engine", "projections", "lastseen")


class Source(NamedTuple):
    """One file: its path from the root, with slashes, and its text."""

    path: str
    text: str

    def tree(self) -> ast.Module:
        """The file as Python."""
        return ast.parse(self.text, filename=self.path)

    def is_in(self, *folders: str) -> bool:
        """Whether the file stands in one of the folders, at any depth."""
        return any(self.path.startswith(f"{folder}/") for folder in folders)


@cache
def text_files() -> tuple[Source, ...]:
    """Every text file of the project."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    sources = []
    for path in sorted(set(filter(None, listing.split("\0")))):
        try:
            sources.append(Source(path, (ROOT / path).read_text(encoding="utf-8")))
        except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
            continue  # Deleted but not yet committed; a link to a folder; or binary.
    return tuple(sources)


def python_files(*folders: str) -> list[Source]:
    """The Python files in these folders; all of them where none is named."""
    return [each for each in text_files() if each.path.endswith(".py") and (not folders or each.is_in(*folders))]

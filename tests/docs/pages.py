"""The pages of the documentation and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^( *)```([a-z]+)(?: title=\"([^\"]+)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: where it stands, in which language, and under which file name, if it has one."""

    line: int
    language: str
    title: str | None
    text: str


def pages() -> list[Path]:
    """Every page below `docs`."""
    return sorted(DOCS.rglob("*.md"))


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, found.start()) + 1, found[2], found[3], _dedented(found[4], found[1]))
        for found in _FENCE.finditer(text)
    ]


def _dedented(text: str, indent: str) -> str:
    return re.sub(f"^{indent}", "", text, flags=re.MULTILINE) if indent else text


class Command(NamedTuple):
    """A line that the reader types, and what the page shows of its output."""

    line: str
    shown: str


def commands(block: Block) -> list[Command]:
    """The commands of a console block."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], ""))
        else:
            found[-1] = found[-1]._replace(shown=f"{found[-1].shown}{line}\n")
    return found


def is_shown(output: str, shown: str) -> bool:
    """Whether a page shows what a command wrote.

    `…` on the page stands for any text within a line, and on a line of its own for any lines. Blank lines and the width
    of blanks do not count, so that a table may be narrower on the page than on a terminal.
    """
    patterns = []
    for line in filter(str.strip, shown.splitlines()):
        words = re.escape(" ".join(line.split())).replace("…", ".*").replace(r"\ ", " ")
        patterns.append(r"(?:.*\n)*" if line.strip() == "…" else f"{words}\n")
    written = "".join(f"{' '.join(line.split())}\n" for line in output.splitlines() if line.strip())
    return re.fullmatch("".join(patterns), written) is not None

"""`python docs/theme/captures.py`: what commands write on the recording in the repository, as pictures of a terminal.

The recording brings its own times, so a capture is the same whenever it is made; a test makes them again and compares.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
LOG = "sqlite:///var/demo/chat.db"
RECORDING = "lastseen/replay/data/ubuntu-irc-slice.jsonl.gz"
CAPTURES = {
    "terminal": (
        "lastseen ls --limit 5",
        "lastseen explain 'irc:#ubuntu:nalioth'",
    ),
    "lives": ("lastseen history 'irc:#ubuntu:nalioth' --lives --limit 6",),
}
"""The name of each picture → the commands in it."""
COLUMNS, LINE_PX, LETTER_PX = 144, 19, 7.85


def main() -> int:
    """Make all of them again."""
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in captures(Path(folder)).items():
            (PICTURES / f"{name}.svg").write_text(picture, encoding="utf-8", newline="\n")
    return 0


def captures(folder: Path) -> dict[str, str]:
    """Replay the recording in a folder, and capture what the commands say of it."""
    log = f"sqlite:///{folder / 'chat.db'}"
    _run(f"lastseen replay {ROOT / RECORDING} --log {log}")
    return {
        name: _picture([(command, _run(f"{command} --log {log}")) for command in commands])
        for name, commands in CAPTURES.items()
    }


def _run(command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": str(COLUMNS), "NO_COLOR": "1"}
    return subprocess.run(["bash", "-ec", command], env=environment, check=True, capture_output=True, text=True).stdout


def _picture(typed: list[tuple[str, str]]) -> str:
    lines: list[tuple[str, str]] = []
    for command, output in typed:
        lines.append(("typed", f"$ {command} --log {LOG}"))
        for line in filter(str.strip, output.splitlines()):
            lines += [("said", part) for part in _wrapped(line.rstrip())]
        lines.append(("said", ""))
    width = max(len(text) for _, text in lines) * LETTER_PX + 32
    height = len(lines) * LINE_PX + 44
    rows = [
        f'<text class="{kind}" x="16" y="{44 + number * LINE_PX}" xml:space="preserve">{escape(text)}</text>'
        for number, (kind, text) in enumerate(lines)
        if text
    ]
    dots = [f'<circle cx="{18 + 16 * number}" cy="15" r="5" fill="#6e7681"/>' for number in range(3)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="terminal" viewBox="0 0 {width:.0f} {height}" '
        f'width="{width:.0f}" height="{height}">\n'
        "<style>svg.terminal text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        "fill:#c9d1d9}svg.terminal .typed{fill:#7ee787}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="#161b22"/>\n' + "\n".join([*dots, *rows]) + "\n</svg>\n"
    )


def _wrapped(line: str) -> list[str]:
    """A line as a terminal breaks it."""
    return [line[start : start + COLUMNS] for start in range(0, len(line), COLUMNS)]


if __name__ == "__main__":
    sys.exit(main())

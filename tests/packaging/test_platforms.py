"""lastseen without what only Linux has: macOS and Windows, as far as a process on Linux can stand in for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_embedded_use_clients_and_the_command_line_need_nothing_of_linux(platform: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("elsewhere.py")
    ended = subprocess.run(
        [sys.executable, program, platform, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "all of it works"

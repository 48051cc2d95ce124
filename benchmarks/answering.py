"""How long a program in a new process takes to its first answer."""

from __future__ import annotations

import json
import subprocess
import sys


def answered_by(script: str, *arguments: str) -> float:
    """What a new process has printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True
    )  # fmt: skip
    return float(json.loads(done.stdout))

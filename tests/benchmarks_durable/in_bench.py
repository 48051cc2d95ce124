"""Runs a script of this folder in the benchmarks' own environment, which has the peers' libraries; and makes it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-bench" / "bin" / "python"


def said_by(script: str, *arguments: str) -> dict[str, Any]:
    """What the script has printed as JSON. Fails the test that asks, with what went wrong."""
    made = subprocess.run(["make", "bench-setup"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    done = subprocess.run(
        [PYTHON, Path(__file__).parent / script, *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found

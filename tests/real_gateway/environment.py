"""The real gateway: hermes-agent's wheel, unpacked, run by an environment of its own that also has what we need.

`python -m tests.real_gateway.environment` makes both, as `make real-gateway` does; the tests make what is missing. Both
are pinned by hash, and kept in `var/peers`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.unpacked import HERMES_AGENT, ROOT, Wheel, environment, unpacked

LOCK = Path(__file__).parent / "environment.lock"
HERMES_AGENT_19 = Wheel("hermes-agent", "0.19.0", "bd0bac012aee38a60894781f4597dc29ee7bedb3448540249921f10d3bef327f")
"""Versions from 0.18 on keep their sessions in `state.db`."""
_STORY_WITHIN_S = 60


def run(program: Path, *arguments: str, home: Path, wheel: Wheel = HERMES_AGENT) -> str:
    """Run a program beside the gateway's modules, with a gateway's home of its own; returns what it printed.

    Raises `AssertionError` with all that it said where it fails.
    """
    done = subprocess.run(
        [str(environment(LOCK)), "-W", "ignore", str(program), *arguments],
        cwd=home,
        env={
            "PATH": os.environ["PATH"], "HOME": str(home), "HERMES_HOME": str(home), "TZ": "Asia/Kathmandu",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(unpacked(wheel))]), "GATEWAY_ALLOW_ALL_USERS": "true",
            "HTTPS_PROXY": "http://127.0.0.1:9",  # it asks for models' figures, and does without
        },
        capture_output=True, text=True, check=False, timeout=_STORY_WITHIN_S,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    unpacked()
    unpacked(HERMES_AGENT_19)
    environment(LOCK)

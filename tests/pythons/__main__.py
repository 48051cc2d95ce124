"""`make test-pythons`: the quick tier on every other Python that the machine has, one after the other.

python -m tests.pythons var/lock/bin/uv [VERSION ...]

Each gets an environment of its own in var/pythons, from the same lock as `.venv`. The Python that runs this is left
out: `make test` runs on it. Where versions are named (`3.13`), those alone are run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.patience import ends_within
from tests.pythons.interpreters import Interpreter, installed

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "var" / "pythons"
LASTS_AT_MOST_S = 900
"""For one Python, in seconds of a quiet machine, on which the tier takes 2 to 3 minutes."""

LONGEST_DOWNLOAD_S = 1_800


def prepare(uv: Path, interpreter: Interpreter) -> Path:
    """An environment with what `.venv` has; its Python. Raises `subprocess.CalledProcessError`."""
    folder = KEPT / interpreter.version
    python = folder / "bin" / "python"
    _run(uv, "venv", "--quiet", "--clear", "--python", str(interpreter.program), str(folder))
    install = ("pip", "install", "--quiet", "--python", str(python))
    _run(uv, *install, "--require-hashes", "--only-binary", ":all:", "-r", "requirements-dev.lock")
    _run(uv, *install, "--no-deps", "--no-build-isolation", "--editable", ".")
    return python


def run_tier(python: Path) -> bool:
    """Whether the quick tier passes."""
    tier = subprocess.Popen([python, "-m", "tests.pythons.tier"], cwd=ROOT)
    if not ends_within(tier, LASTS_AT_MOST_S):
        say(f"it was not done after {LASTS_AT_MOST_S} s of a quiet machine")
    return tier.returncode == 0


def _run(uv: Path, *arguments: str) -> None:
    # A warning of uv that files cannot be linked between disks says nothing about lastseen.
    subprocess.run(
        [uv.absolute(), *arguments],
        cwd=ROOT,
        check=True,
        env=os.environ | {"UV_LINK_MODE": "copy"},
        timeout=LONGEST_DOWNLOAD_S,
    )


def say(text: str) -> None:
    """A line for people who watch."""
    sys.stderr.write(f"lastseen: {text}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Run the tier on each Python, with the `uv` that is named; 1 where it fails on one."""
    if not arguments:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    ours = ".".join(map(str, sys.version_info[:3]))
    found = installed()
    named = arguments[1:]
    chosen = [
        each
        for each in found
        if (any(f"{each.version}.".startswith(f"{name}.") for name in named) if named else each.version != ours)
    ]
    say(
        f"Pythons here: {', '.join(each.version for each in found)};"
        f" running {', '.join(each.version for each in chosen)}"
    )
    if named and not chosen:
        return 1
    failed = []
    for interpreter in chosen:
        begun = time.monotonic()
        try:
            passed = run_tier(prepare(Path(arguments[0]), interpreter))
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
            say(f"no environment could be made: {failure}")
            passed = False
        say(f"Python {interpreter.version}: {'passed' if passed else 'FAILED'} in {time.monotonic() - begun:.0f} s")
        failed += [] if passed else [interpreter.version]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m lastseen.docs [--check]`, from the root of the repository: write the generated files, or name the stale.

Exit code 0 if all is well, 1 if `--check` found stale files, 2 for anything else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lastseen.docs import COMMAND, stale, write


def main(arguments: list[str]) -> int:
    """The command; returns its exit code."""
    root = Path.cwd()
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"usage: {COMMAND} [--check]\n")
        return 2
    if not (root / "engine" / "lifecycle.py").is_file():
        sys.stderr.write(f"{COMMAND}: run it from the root of the repository; {root} holds no engine/lifecycle.py\n")
        return 2
    if arguments:
        paths = stale(root)
        sys.stdout.writelines(f"stale: {path}\n" for path in paths)
        if paths:
            sys.stderr.write(f"run: {COMMAND}\n")
        return 1 if paths else 0
    sys.stdout.writelines(f"wrote: {path}\n" for path in write(root))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

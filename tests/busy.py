"""Run a command beside busy loops: `python -m tests.busy NUMBER COMMAND...`; its exit code is that of the command.

What it shows is that load slows tests down and does not fail them.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys


def loop() -> None:
    """Take all the processor time that there is to have."""
    while True:
        pass


def main(arguments: list[str]) -> int:
    """Start the loops, run the command, end the loops."""
    number, *command = arguments
    loops = [multiprocessing.Process(target=loop, daemon=True) for _ in range(int(number))]
    for each in loops:
        each.start()
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        for each in loops:
            each.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

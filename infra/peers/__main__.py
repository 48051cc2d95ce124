"""`python -m infra.peers`: see that the servers that benchmarks measure beside the engine are there, and say which.

It never fails: a benchmark says of each missing server that it is missing.
"""

from __future__ import annotations

import sys

from infra.peers.choice import SERVERS, find, install


def main() -> int:
    """Say where each server is, or what to do where it is not."""
    missing = [package for package in SERVERS if find(package) is None]
    if missing:
        install(missing)
    for package in SERVERS:
        found = find(package)
        if found is None:
            sys.stderr.write(
                f"lastseen: {package} is missing; the benchmarks leave it out, and say so."
                f" On Debian: sudo apt-get install {package}\n"
            )
        else:
            sys.stdout.write(f"{package}: {found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

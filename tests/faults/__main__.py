"""`python -m tests.faults`: see that what the tests break things with is here, and say where."""

from __future__ import annotations

import sys

from tests.faults.faketime import NoFaketime, choose


def main() -> int:
    """Say where it is, or what to do where it is not."""
    try:
        sys.stdout.write(f"libfaketime: {choose()}\n")
    except NoFaketime as missing:
        sys.stderr.write(f"lastseen: {missing}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

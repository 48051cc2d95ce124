"""`python -m infra.browser`: see that there is a browser for the tests, and say which."""

from __future__ import annotations

import sys

from infra.browser.choice import NoBrowser, choose


def main() -> int:
    """Say which browser it is, or what to do where there is none."""
    try:
        sys.stdout.write(f"browser: {choose()}\n")
    except NoBrowser as missing:
        sys.stderr.write(f"lastseen: {missing}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

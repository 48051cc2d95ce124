"""`python -m tests.faults`: see that what the tests break things with is here, and say where."""

from __future__ import annotations

import sys

from tests.faults.faketime import choose
from tests.programs import report

if __name__ == "__main__":
    sys.exit(report("libfaketime", choose))

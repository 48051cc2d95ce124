"""`python -m tests.fuzz --inputs 100000 --seed 7`: bad input for every interface."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.interfaces import INTERFACES


def main() -> int:
    """Fuzz every interface, or one; says what was tried."""
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--interface", choices=sorted(INTERFACES), default=None)
    chosen = parser.parse_args()
    names = [chosen.interface] if chosen.interface else list(INTERFACES)
    total = sum(INTERFACES[name][1] for name in names)
    for name in names:
        count = round(chosen.inputs * INTERFACES[name][1] / total)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="lastseen-fuzz-") as folder:
            fuzz(name, Path(folder), chosen.seed, count)
        sys.stdout.write(f"{name}: {count:,} inputs, seed {chosen.seed}, {time.perf_counter() - started:.1f} s\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

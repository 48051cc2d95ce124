"""`python -m tests.fuzz --inputs 100000 --seed 7`: bad input for every door."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.doors import DOORS
from tests.fuzz.fuzzing import fuzz


def main() -> int:
    """Fuzz every door, or one; says what was tried."""
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--door", choices=sorted(DOORS), default=None)
    chosen = parser.parse_args()
    names = [chosen.door] if chosen.door else list(DOORS)
    total = sum(DOORS[name][1] for name in names)
    for name in names:
        count = round(chosen.inputs * DOORS[name][1] / total)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="lastseen-fuzz-") as folder:
            fuzz(name, Path(folder), chosen.seed, count)
        sys.stdout.write(f"{name}: {count:,} inputs, seed {chosen.seed}, {time.perf_counter() - started:.1f} s\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

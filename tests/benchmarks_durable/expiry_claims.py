"""What the expiry benchmarks' peers with libraries of their own do: reported as JSON, for tests elsewhere."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import expiry, expiry_notices
from benchmarks.measure import Size


def main(folder: Path) -> None:
    """Sweeps of few sessions by all subjects, and notices of few expiries."""
    expiry.PASSES = 3
    expiry_notices.FIRST_DUE_MS, expiry_notices.DUE_WITHIN_MS, expiry_notices.PATIENCE_S = 1_500, 200, 10.0
    found: dict[str, Any] = {}
    for name in ("sweeps", "eager"):
        (folder / name).mkdir()
    # Wrong counts are refused by the benchmark itself.
    rows = expiry.sweeps(folder / "sweeps", 1_000, 1, Size("full", 1, 1_000, 1_000, 1_000))
    found["sweeps"] = [asdict(row) for row in rows]
    rows = expiry_notices.of_redis(folder / "eager", "redis, eager", expiry_notices.EAGER, 40, 200)
    found["notices"] = [asdict(row) for row in rows]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

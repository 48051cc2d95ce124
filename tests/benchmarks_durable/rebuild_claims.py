"""What redis loads in the restart benchmark: reported as JSON, for tests in the other environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import rebuild_peers


def main(folder: Path) -> None:
    """A server filled and started again on each of its files; counts that differ are refused by the benchmark."""
    loads = rebuild_peers.redis_loads(folder, 500)
    found = {name: load() for name, load in loads.items()}
    rdb, aof = folder / "redis-rdb", folder / "redis-aof"
    sys.stdout.write(
        json.dumps(
            {
                "seconds": found,
                "rdb": sorted(each.name for each in rdb.iterdir() if each.name != "redis.log"),
                "aof": (b"".join(each.read_bytes() for each in (aof / "appendonlydir").iterdir())).count(b"PXAT"),
                "rdb beside aof": (aof / "dump.rdb").exists(),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

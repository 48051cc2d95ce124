"""Touches in the RocksDB state of Quix Streams: run by itself, in an environment that has nothing else of ours.

Given a file of keys and a folder. It reads lines `one SECONDS` or `hundred SECONDS`, each with `flushed` or `as-it-is`
before it, and answers each with a rate in touches a second; `read KEY` with what the state holds. A touch is a
transaction of the state, prepared and flushed as a checkpoint does, without a changelog topic.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any

from quixstreams.state.rocksdb import RocksDBStorePartition
from rocksdict import WriteOptions


class RocksDbSessions:
    """A partition of the state; `flushed` waits for the disk at each transaction, which is not its usual setting."""

    def __init__(self, folder: Path, keys: list[str], *, flushed: bool) -> None:
        self.partition: Any = RocksDBStorePartition(str(folder))
        if flushed:
            options = WriteOptions()
            options.sync = True
            self.partition._db.set_write_options(options)
        self.keys = keys
        for start in range(0, len(keys), 1_000):
            self.touch_many(keys[start : start + 1_000])
        self.groups = {1: cycle([[key] for key in keys]), 100: cycle(_groups(keys, 100))}

    def touch_many(self, keys: list[str]) -> None:
        """Note for each key that it was used now, in one transaction."""
        now_ms = time.time_ns() // 1_000_000
        transaction = self.partition.begin()
        for key in keys:
            transaction.set(key=key, value=now_ms, prefix=b"")
        transaction.prepare()
        transaction.flush()

    def rate(self, batch: int, seconds: float) -> float:
        """Touches a second."""
        started, done, groups = time.perf_counter(), 0, self.groups[batch]
        end = started + seconds
        while time.perf_counter() < end:
            self.touch_many(next(groups))
            done += batch
        return done / (time.perf_counter() - started)

    def read(self, key: str) -> int | None:
        """When a session was last used."""
        found: int | None = self.partition.begin().get(key=key, prefix=b"")
        return found


def _groups(keys: list[str], size: int) -> list[list[str]]:
    return [keys[start : start + size] for start in range(0, len(keys) - size + 1, size)]


def main(keys_file: str, folder: str) -> None:
    """Answer lines until there are no more."""
    keys = json.loads(Path(keys_file).read_text("utf-8"))
    states = {
        "as-it-is": RocksDbSessions(Path(folder) / "as-it-is", keys, flushed=False),
        "flushed": RocksDbSessions(Path(folder) / "flushed", keys, flushed=True),
    }
    _say("ready")
    for line in sys.stdin:
        which, what, given = line.split()
        state = states[which]
        _say(state.read(given) if what == "read" else state.rate({"one": 1, "hundred": 100}[what], float(given)))


def _say(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

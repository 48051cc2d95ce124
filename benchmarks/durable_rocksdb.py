"""Quix Streams' RocksDB state, in a process of its own (`rocksdb_probe`), since it wants other versions than ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.durable_drive import CRASH_ONLY, EACH, Rate, Subject
from benchmarks.probe import Probe
from benchmarks.unpacked import environment

PROBE = Path(__file__).parent / "rocksdb_probe.py"
PEER = "Quix Streams"


def open_probe(folder: Path, keys: Sequence[str]) -> Probe:
    """The process, with a session in each of its states for each key. Raises `PeerMissing`."""
    python, given = environment(), folder / "keys.json"
    given.write_text(json.dumps(list(keys)), "utf-8")
    return Probe(PEER, [python, PROBE, given, folder], folder / "said.txt")


def rate(probe: Probe, which: str, what: str) -> Rate:
    """A way of driving one of its states: `one` by one, or a `hundred` at a time."""
    return lambda seconds: float(probe.ask(which, what, seconds))


@contextmanager
def rocksdb_states(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """The state as it is, which leaves flushing to the system, and the same flushed at each transaction."""
    with closing(open_probe(folder, keys)) as probe:
        yield [
            Subject(
                "Quix Streams' RocksDB state", CRASH_ONLY, rate(probe, "as-it-is", "one"), None,
                rate(probe, "as-it-is", "hundred"), "a transaction a touch or a batch, no changelog; one thread",
            ),
            Subject(
                "Quix Streams' RocksDB state, flushed", EACH, rate(probe, "flushed", "one"), None,
                rate(probe, "flushed", "hundred"), "the same with sync writes, which it has no setting for",
            ),
        ]  # fmt: skip

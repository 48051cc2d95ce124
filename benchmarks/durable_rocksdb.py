"""Quix Streams' RocksDB state, in a process of its own (`rocksdb_probe`), since it wants other versions than ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.durable_drive import CRASH_ONLY, EACH, Rate, Subject
from benchmarks.servers import PeerMissing
from benchmarks.unpacked import environment

PROBE = Path(__file__).parent / "rocksdb_probe.py"
PEER = "Quix Streams"


class RocksDbProbe:
    """The process, and what it answers. Raises `PeerMissing` when it cannot be started."""

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        given, self._said = folder / "keys.json", folder / "said.txt"
        given.write_text(json.dumps(list(keys)), "utf-8")
        with self._said.open("wb") as said:
            self._child = subprocess.Popen(
                [str(environment()), str(PROBE), str(given), str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
            )  # fmt: skip
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, which: str, what: str, given: object) -> Any:
        """What it answers to a line of its."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{which} {what} {given}\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            last = self._said.read_text("utf-8", "replace").strip().splitlines()
            raise PeerMissing(PEER, f"its process ended: {last[-1][:300] if last else 'it said nothing'}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        if self._child.poll() is None:
            self._child.communicate(timeout=60)

    def rate(self, which: str, what: str) -> Rate:
        """A way of driving it."""
        return lambda seconds: float(self.ask(which, what, seconds))


@contextmanager
def rocksdb_states(folder: Path, keys: Sequence[str]) -> Iterator[list[Subject]]:
    """The state as it is, which leaves flushing to the system, and the same flushed at each transaction."""
    probe = RocksDbProbe(folder, keys)
    try:
        yield [
            Subject(
                "Quix Streams' RocksDB state", CRASH_ONLY, probe.rate("as-it-is", "one"), None,
                probe.rate("as-it-is", "hundred"), "a transaction a touch or a batch, no changelog; one thread",
            ),
            Subject(
                "Quix Streams' RocksDB state, flushed", EACH, probe.rate("flushed", "one"), None,
                probe.rate("flushed", "hundred"), "the same with sync writes, which it has no setting for",
            ),
        ]  # fmt: skip
    finally:
        probe.close()

"""kill −9 at random moments, again and again, on one log: nothing acknowledged is lost, and nothing ends twice.

`LASTSEEN_CRASH_CYCLES` sets the number of cycles (100). A failing run prints its seed; `LASTSEEN_CRASH_SEED` sets it.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.reduction
import os
import random
import select
import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from msgspec import structs

import lastseen
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import LogMismatch
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Log
from lastseen.engine.session import Session
from lastseen.engine.verdicts import Verdict
from lastseen.projections.partition import Partition
from tests.durability import victim
from tests.patience import PATIENCE_S

CYCLES = int(os.environ.get("LASTSEEN_CRASH_CYCLES", "100"))
FEW_CYCLES = 15
SEED = int(os.environ.get("LASTSEEN_CRASH_SEED", str(random.SystemRandom().randrange(10**9))))
SHARD_CYCLES = 50
"""Cycles on one log before the next begins with an empty one."""


class Lost(AssertionError):
    """Something acknowledged is not in the log, or the log contradicts itself."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} (LASTSEEN_CRASH_SEED={SEED})")


def fold_all(log: Log) -> tuple[Partition, dict[int, str], Counter[str], list[Verdict]]:
    """Fold a log from its start: the state, each record's session, how often each session ended, the verdicts."""
    partition = Partition(0)
    named: dict[int, str] = {}
    endings: Counter[str] = Counter()
    verdicts = []
    while records := log.read(0, partition.checkpoint, 1_000):
        for record in records:
            outcome = partition.fold(record)
            verdicts.append(outcome.verdict)
            if outcome.ended is not None:
                endings[outcome.ended.session_id] += 1
            if outcome.session is not None:
                named[record.offset] = outcome.session.session_id
    return partition, named, endings, verdicts


class Loop:
    """One log, and processes that are killed on it."""

    def __init__(self, folder: Path, seed: int, *, is_broken: bool = False) -> None:
        self.url = f"sqlite:///{folder / 'log.db'}"
        self.chance = random.Random(seed)
        self.is_broken = is_broken
        self.acknowledged: list[str] = []
        # Children start from a process that has imported everything already, so that a cycle takes milliseconds.
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(["tests.durability.victim"])

    def run_and_kill(self) -> int:
        """Let a process live for a while after it has opened the log, and kill it; how much it acknowledged."""
        reading, writing = os.pipe()
        child = self.processes.Process(
            target=_live,
            args=(self.url, multiprocessing.reduction.DupFd(writing), self.chance.randrange(10**9), self.is_broken),
        )
        child.start()
        os.close(writing)
        text = b""
        # Its first line says that it is up. Some die from there on, others later: so they work on a busy machine too.
        lines_left, chosen = self.chance.choice((1, 1, 2, 6, 21)), False
        kill_at = time.monotonic() + PATIENCE_S
        while (left_s := kill_at - time.monotonic()) > 0:
            if not select.select([reading], [], [], left_s)[0]:
                break
            piece = os.read(reading, 65_536)
            if not piece:
                break
            text += piece
            lines_left -= piece.count(b"\n")
            if lines_left <= 0 and not chosen:
                kill_at, chosen = time.monotonic() + self.chance.uniform(0, 0.12), True
        assert text.startswith(b"open\n"), f"the victim did not come up: exit code {child.exitcode}"
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(PATIENCE_S)
        while piece := os.read(reading, 65_536):
            text += piece
        os.close(reading)
        lines = [line for line in text.decode().split("\n")[1:-1] if line != "nothing"]
        self.acknowledged += lines
        return len(lines)

    def check(self) -> None:
        """Compare what was acknowledged with what is there. Raises `Lost`."""
        log = open_log(self.url, SystemClock())
        try:
            refolded, named, endings, verdicts = fold_all(log)
        finally:
            log.close()
        doubled = [session_id for session_id, count in endings.items() if count > 1]
        if doubled:
            raise Lost(f"sessions ended twice: {doubled}")
        for line in self.acknowledged:
            first, _, rest = line.partition(" ")
            if first == "ended":
                if not endings[rest]:
                    raise Lost(f"session {rest} was reported ended, and the log does not end it")
                continue
            offset_text, session_id, _ = rest.split(" ")
            if named.get(int(offset_text)) != session_id:
                raise Lost(f"the record at {offset_text} was acknowledged for {session_id}, and is not in the log")
            if verdicts[int(offset_text)] is not Verdict.APPLIED:
                raise Lost(
                    f"the record at {offset_text} was acknowledged as applied, and is {verdicts[int(offset_text)]}"
                )
        self._check_recovery(refolded)

    def _check_recovery(self, refolded: Partition) -> None:
        """What a new engine makes of the snapshot and the rest of the log is what the whole log says."""
        try:
            engine = lastseen.open_engine(self.url, background=False, **{**victim.SETTINGS, "snapshot_interval": "1h"})
        except LogMismatch as error:
            raise Lost(f"the snapshot is ahead of the log: {error}") from error
        try:
            recovered = engine._views.partitions[0]
            if (recovered.checkpoint, recovered.digest) != (refolded.checkpoint, refolded.digest):
                raise Lost("the digest after recovery is not that of the log")
            # Active sessions stand in LRU order; suspended ones in none.
            if _states(recovered.in_lru_order()) != _states(refolded.in_lru_order()):
                raise Lost("the active sessions after recovery are not those of the log")
            if sorted(_states(recovered.suspended.values())) != sorted(_states(refolded.suspended.values())):
                raise Lost("the suspended sessions after recovery are not those of the log")
            if engine.notes:
                raise Lost(f"a kill damaged the snapshot: {engine.notes}")
        finally:
            engine.shutdown()


def _states(sessions: Iterable[Session]) -> list[str]:
    """All that the fold knows of sessions; when their deadlines are looked at next is no part of it."""
    return [repr(structs.replace(session, wake_ms=None)) for session in sessions]


def _live(url: str, pipe: multiprocessing.reduction.DupFd, seed: int, is_broken: bool) -> None:
    victim.live(url, pipe.detach(), seed, is_broken=is_broken)


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    kill_and_check(Loop(tmp_path, SEED), FEW_CYCLES)


@pytest.mark.thorough
@pytest.mark.parametrize("shard", range(-(-CYCLES // SHARD_CYCLES)))
def test_what_was_acknowledged_survives_kill_9_many_times(tmp_path: Path, shard: int) -> None:
    kill_and_check(Loop(tmp_path, SEED + 1 + shard), min(SHARD_CYCLES, CYCLES - shard * SHARD_CYCLES))


def kill_and_check(loop: Loop, cycles: int) -> None:
    """Run and kill so many times, and see now and then that nothing is lost."""
    acknowledged = 0
    for cycle in range(cycles):
        acknowledged += loop.run_and_kill()
        if cycle % 5 == 4 or cycle == cycles - 1:
            loop.check()
    assert acknowledged > cycles, "the victims did next to nothing, so nothing was shown"


def test_the_loop_catches_a_log_that_acknowledges_before_it_commits(tmp_path: Path) -> None:
    loop = Loop(tmp_path, SEED, is_broken=True)
    with pytest.raises(Lost):
        run_cycles(loop, 30)


def run_cycles(loop: Loop, cycles: int) -> None:
    """Run, kill and check, so many times."""
    for _ in range(cycles):
        loop.run_and_kill()
        loop.check()

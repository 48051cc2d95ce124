"""Power loss: what a disk may hold at any moment of a run, and what an engine makes of it.

A run writes down every write, truncation and sync of its log, snapshot and history, and between them what callers
received. At a chosen moment each file is what was synced by then, with some of the rest: none, all, a beginning, any
part, or any 512-byte sectors of it; each file by itself, since a disk keeps no order between files. That is opened as
any start is. Names of files are taken to be kept in order, as a journalling file system does.

`python -m tests.durability.power_loss --points 500 --seed 7` does the number that is given.
"""

from __future__ import annotations

import argparse
import logging
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import lastseen
from lastseen.engine.clock import SystemClock
from lastseen.engine.errors import LastseenError, LogError
from lastseen.engine.log import open_log
from lastseen.engine.verdicts import Verdict
from tests.contracts.log_contract import everything
from tests.durability import victim
from tests.durability.disk import Op, a_disk
from tests.durability.test_kill import fold_all

SECTOR_BYTES = 512
LIVES = 2
"""Engines one after another in a run: an orderly end checkpoints, and deletes its files."""
KEPT = ("none", "all", "beginning", "part", "sectors")
"""What of the unsynced the disk has kept."""


class Lost(AssertionError):
    """Something acknowledged is gone, or what is there contradicts itself."""


class Reopened(NamedTuple):
    """What a start after the loss found."""

    records: int
    acknowledged: int
    notes: list[str]


def record(folder: Path, seed: int, calls: int, lives: int = LIVES) -> list[Op]:
    """Run engines in a folder, `calls` calls in each of several threads; all that was done to the disk meanwhile."""
    with a_disk() as disk:
        ops: list[Op] = []
        disk.ops = ops

        def use(engine: lastseen.Engine, chance: random.Random) -> None:
            for _ in range(calls):
                try:
                    said = victim._act(engine, f"key:{chance.randrange(victim.KEYS)}", chance)
                except LogError:
                    return  # its answers would say nothing
                except LastseenError:
                    continue  # refused: nothing was acknowledged
                disk.said(said)

        for life in range(lives):
            engine = lastseen.open_engine(f"sqlite:///{folder / 'log.db'}", **victim.SETTINGS)
            threads = [
                threading.Thread(target=use, args=(engine, random.Random(f"{seed} {life} {number}")))
                for number in range(victim.THREADS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            engine.shutdown()
    return ops


class Held:
    """What a disk holds for certain after some operations, and what it may hold besides."""

    def __init__(self) -> None:
        self.synced: defaultdict[str, bytearray] = defaultdict(bytearray)
        self.unsynced: defaultdict[str, list[Op]] = defaultdict(list)
        self.said: list[str] = []
        self._syncing: defaultdict[str, deque[int]] = defaultdict(deque)

    def follow(self, op: Op) -> None:
        """Take in the next operation."""
        if op.what == "said":
            self.said.append(op.path)
        elif op.what == "delete":
            for known in (self.synced, self.unsynced, self._syncing):
                known.pop(op.path, None)
        elif op.what == "syncing":
            self._syncing[op.path].append(len(self.unsynced[op.path]))
        elif op.what == "sync":
            waiting, count = self.unsynced[op.path], self._syncing[op.path].popleft()
            for each in waiting[:count]:
                apply(self.synced[op.path], each)
            del waiting[:count]
            self._syncing[op.path] = deque(max(later - count, 0) for later in self._syncing[op.path])
        else:
            self.unsynced[op.path].append(op)

    def lay_out(self, folder: Path, kept: str, chance: random.Random) -> None:
        """Write the files as the disk may hold them."""
        for path in {*self.synced, *self.unsynced}:
            content = bytearray(self.synced.get(path, b""))
            for op in surviving(self.unsynced.get(path, []), kept, chance):
                apply(content, op)
            (folder / Path(path).name).write_bytes(content)


def apply(content: bytearray, op: Op) -> None:
    """Do to a file's content what was done to the file; what was never written reads as zeros."""
    end = op.offset + len(op.content)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if op.what == "truncate":
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))
    else:
        content[op.offset : end] = op.content


def surviving(ops: Sequence[Op], kept: str, chance: random.Random) -> Iterator[Op]:
    """Those of a file's unsynced operations, or the sectors of them, that reached the disk."""
    if kept == "none":
        return
    last = chance.randint(0, len(ops)) if kept == "beginning" else len(ops)
    for op in ops[:last]:
        if kept == "part" and chance.random() < 0.5:
            continue
        if kept != "sectors" or op.what != "write":
            yield op
            continue
        at, end = op.offset, op.offset + len(op.content)
        while at < end:
            until = min(at - at % SECTOR_BYTES + SECTOR_BYTES, end)
            if chance.random() < 0.5:
                yield op._replace(offset=at, content=op.content[at - op.offset : until - op.offset])
            at = until


def check(folder: Path, said: Sequence[str]) -> Reopened:
    """Open what is in the folder, and compare it with what callers received. Raises `Lost`."""
    url = f"sqlite:///{folder / 'log.db'}"
    try:
        log = open_log(url, SystemClock())
        try:
            refolded, named, endings, verdicts = fold_all(log)
            records = everything(log)[0]
        finally:
            log.close()
        engine = lastseen.open_engine(url, background=False, **{**victim.SETTINGS, "snapshot_interval": "1h"})
    except LastseenError as error:
        raise Lost(f"it does not open: {error!r}") from error
    try:
        recovered = engine._views.partitions[0]
        if (recovered.checkpoint, recovered.digest) != (refolded.checkpoint, refolded.digest):
            raise Lost(f"the digest after recovery is not that of the log: {engine.notes}")
        notes = list(engine.notes)
    finally:
        engine.shutdown()
    if doubled := [session_id for session_id, count in endings.items() if count > 1]:
        raise Lost(f"sessions ended twice: {doubled}")
    if len({record.value for record in records}) != len(records):
        raise Lost("a record is in the log twice")
    for line in said:
        first, _, rest = line.partition(" ")
        if first == "ended" and not endings[rest]:
            raise Lost(f"session {rest} was reported ended, and the log does not end it")
        if first == "0":
            offset_text, session_id, _ = rest.split(" ")
            offset = int(offset_text)
            if named.get(offset) != session_id or verdicts[offset] is not Verdict.APPLIED:
                raise Lost(f"the record at {offset} was acknowledged for {session_id}, and is not in the log")
    with closing(sqlite3.connect(folder / "log.db.history")) as history:
        (entries,) = history.execute("SELECT count(*) FROM entries").fetchone()
    if entries != len(records):
        raise Lost(f"the history tells of {entries} records of {len(records)}: {notes}")
    return Reopened(len(records), len(said), notes)


def lose_power(ops: Sequence[Op], points: int, seed: int) -> list[Reopened]:
    """Lose power at so many moments of a run, and look at each. Raises `Lost`, which says where."""
    chance = random.Random(seed)
    # Checkpoints, and files that are made or deleted, are rare among the operations, and the delicate ones.
    delicate = [at for at, op in enumerate(ops) if op.what != "said" and (op.what == "delete" or "-wal" not in op.path)]
    moments = sorted(
        chance.choice(delicate) + chance.randint(0, 1) if at % 3 == 0 and delicate else chance.randint(0, len(ops))
        for at in range(points)
    )
    held, done, found = Held(), 0, []
    for number, moment in enumerate(moments):
        for op in ops[done:moment]:
            held.follow(op)
        done = moment
        kept = KEPT[number % len(KEPT)]
        with tempfile.TemporaryDirectory(prefix="lastseen-power-") as name:
            held.lay_out(Path(name), kept, chance)
            try:
                found.append(check(Path(name), held.said))
            except Lost as error:
                raise Lost(f"{error} (seed {seed}, operation {moment} of {len(ops)}, kept {kept})") from error
    return found


def main() -> int:
    """The command: say how many points were tried, and what the starts found."""
    parser = argparse.ArgumentParser(description="Lose power at random moments of recorded runs.")
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    chosen = parser.parse_args()
    logging.getLogger("lastseen").setLevel(logging.ERROR)  # what a start passes over is counted, not shown
    found: list[Reopened] = []
    began = time.monotonic()
    while len(found) < chosen.points:
        seed = chosen.seed + len(found)
        with tempfile.TemporaryDirectory(prefix="lastseen-power-") as name:
            ops = record(Path(name), seed, calls=80)
        try:
            found += lose_power(ops, min(chosen.points - len(found), 100), seed)
        except Lost as error:
            sys.stdout.write(f"LOST: {error}\n")
            return 1
    reported = Counter(note.partition(" (")[2].partition(")")[0] or "other" for each in found for note in each.notes)
    sys.stdout.write(
        f"{len(found)} points, seed {chosen.seed}: 0 lost of {sum(each.acknowledged for each in found)} answers;"
        f" snapshots folded anew: {dict(reported)}; {time.monotonic() - began:.0f} s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

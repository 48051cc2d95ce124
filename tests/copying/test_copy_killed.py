"""A copy that is killed -9 at random moments and started again comes to the same log as one that is not."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from stories import everything

from lastseen.copying.copy import copy_between
from lastseen.engine.clock import SystemClock
from lastseen.engine.log import open_log
from lastseen.engine.log.port import Record
from lastseen.replay.recording import SLICE
from lastseen.replay.replay import replay

ROOT = Path(__file__).resolve().parents[2]
KILLS = 8
CHILD = """
import json, sys
import lastseen.copying.copy as module
module.BATCH_RECORDS, module.PROGRESS_EVERY = 50, 20
tell = lambda done, total: print(done, flush=True)
copied = module.copy_between(sys.argv[1], sys.argv[2], progress=tell)
print(json.dumps(copied.as_dict()), flush=True)
"""


def start(source: str, target: str) -> subprocess.Popen[str]:
    """Begin, or go on with, the copy in a process of its own; it says a line every few records."""
    command = [sys.executable, "-c", CHILD, source, target]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."})


def held(url: str) -> list[Record]:
    """What the log at a URL holds, without the times at which it took it."""
    log = open_log(url, SystemClock(), genesis=False)
    try:
        return [record._replace(timestamp_ms=0) for record in everything(log)]
    finally:
        log.close()


@pytest.mark.thorough
def test_killed_and_resumed_it_comes_to_the_same_log(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    dice = random.Random(seed)
    recording = tmp_path / "chat.jsonl"
    with gzip.open(SLICE) as lines:
        recording.write_bytes(b"".join(islice(lines, 5_000)))
    source, whole, killed = (f"sqlite:///{tmp_path / name}" for name in ("source.db", "whole.db", "killed.db"))
    killed += "?partitions=3"
    total = replay(recording, source, max_sessions=30).figures.records
    copy_between(source, f"{whole}?partitions=3")

    reached = [0]
    for _ in range(KILLS):
        with start(source, killed) as child:
            assert child.stdout is not None
            for line in child.stdout:
                # The line said comes before the batch is safe; a few microseconds later is any moment.
                if not line.strip().isdecimal() or int(line) > reached[-1] + dice.randrange(100, total // KILLS):
                    break
            try:
                child.wait(timeout=dice.random() * 0.01)
            except subprocess.TimeoutExpired:
                child.kill()
        reached.append(len(held(killed)))
    assert reached == sorted(reached), f"seed {seed}: the log lost records: {reached}"
    assert sum(0 < each < total for each in reached) >= 3, f"seed {seed}: hardly ever cut short: {reached}"

    with start(source, killed) as child:
        assert child.stdout is not None
        copied = json.loads(child.stdout.read().splitlines()[-1])
    assert child.returncode == 0, f"seed {seed}"
    assert copied["ok"], f"seed {seed}: {copied['differences']}"
    assert held(killed) == held(whole), f"seed {seed}"

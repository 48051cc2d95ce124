"""A replay that is killed -9 at random moments and started again comes to the same log as one that is not."""

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

from lastseen.embedded import audit
from lastseen.engine.clock import ManualClock
from lastseen.engine.log import open_log
from lastseen.replay.recording import SLICE
from lastseen.replay.replay import replay

ROOT = Path(__file__).resolve().parents[2]
KILLS = 8
CHILD = """
import json, pathlib, sys
import lastseen.replay.replay as module
module.BATCH_RECORDS, module.FLUSH_EVERY_RECORDS = 50, 300
tell = lambda done, total: print(done, flush=True)
replayed = module.replay(pathlib.Path(sys.argv[1]), sys.argv[2], max_sessions=30, progress=tell)
print(json.dumps(replayed.as_dict()), flush=True)
"""


def start(recording: Path, url: str) -> subprocess.Popen[str]:
    """Begin, or go on with, the replay in a process of its own; it says a line after each small batch."""
    command = [sys.executable, "-c", CHILD, str(recording), url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."})


def held(url: str) -> int:
    """How many records the log holds."""
    log = open_log(url, ManualClock())
    try:
        return log.end_offsets()[0]
    finally:
        log.close()


@pytest.mark.thorough
def test_killed_and_resumed_it_comes_to_the_same_log(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    dice = random.Random(seed)
    recording = tmp_path / "chat.jsonl"
    # Each child gets some hundred lines beyond the one before it, so all of them are cut short.
    with gzip.open(SLICE) as lines:
        chat = list(islice(lines, 6_000))
    recording.write_bytes(b"".join(chat))
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    wanted = replay(recording, f"sqlite:///{tmp_path / 'whole.db'}", max_sessions=30).figures

    reached = [0]
    for _ in range(KILLS):
        with start(recording, url) as child:
            assert child.stdout is not None
            for line in child.stdout:
                done = int(line) if line.strip().isdecimal() else len(chat)
                # The line said comes before the batch is safe; a few microseconds later is any moment.
                if done > reached[-1] / wanted.records * len(chat) + dice.randrange(100, 700):
                    break
            try:
                child.wait(timeout=dice.random() * 0.01)
            except subprocess.TimeoutExpired:
                child.kill()
        reached.append(held(url))
    assert 0 < reached[1] < reached[-1], f"seed {seed}: {reached}"
    assert reached == sorted(reached), f"seed {seed}: the log lost records: {reached}"
    assert sum(0 < each < wanted.records for each in reached) >= 3, f"seed {seed}: hardly ever cut short: {reached}"

    with start(recording, url) as child:
        assert child.stdout is not None
        last = child.stdout.read().splitlines()[-1]
    assert child.returncode == 0, f"seed {seed}"
    assert {**json.loads(last), **wanted.as_dict()} == json.loads(last), f"seed {seed}"
    assert audit.rebuild(url).differences == [], f"seed {seed}"

"""One subject in a process of its own: `python -m benchmarks.live_child KIND FOLDER PLAN`.

It says when it is filled, then does each block of operations that it reads from its standard input, and says how long
that took. So no subject's garbage, threads or memory weigh on another's figures.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.mix import Operation
from benchmarks.peers.kinds import KIND, opened
from benchmarks.peers.port import Subject
from benchmarks.servers import PeerMissing
from benchmarks.workload import key_of

BATCH = 100


class Plan(NamedTuple):
    """What is done to every subject of a group alike."""

    sessions: int
    """How many are live at first, of those `key_of` names."""
    most: int
    """How many may be."""
    rounds: list[dict[str, list[Operation]]]
    """For each round the operations of each block, by the block's name. Blocks stand in the order of the operations."""


def one_by_one(subject: Subject, operations: Sequence[Operation]) -> dict[str, Any]:
    """How long single calls take: until the last has returned, and until all is done in the background as well."""
    calls = [(getattr(subject, kind), key) for kind, key in operations]

    def work() -> None:
        for call, key in calls:
            call(key)

    return _until_done(subject, work)


def each_timed(subject: Subject, operations: Sequence[Operation]) -> dict[str, Any]:
    """How long each single call takes, in µs. The two looks at the clock are in it: some 0.1 µs."""
    calls = [(getattr(subject, kind), key) for kind, key in operations]
    clock, samples = time.perf_counter_ns, []
    keep = samples.append
    for call, key in calls:
        started = clock()
        call(key)
        keep(clock() - started)
    subject.settle()
    return {"seconds": sum(samples) / 1e9, "samples": [sample / 1_000 for sample in samples]}


def in_batches(subject: Subject, operations: Sequence[Operation]) -> dict[str, Any]:
    """How long it takes by hundreds."""
    batches = [operations[start : start + BATCH] for start in range(0, len(operations), BATCH)]

    def work() -> None:
        for batch in batches:
            subject.batch(batch)

    return _until_done(subject, work)


def _until_done(subject: Subject, work: Callable[[], None]) -> dict[str, Any]:
    """How long the calls take, how long until all is done, and what all of that cost this process's cores."""
    began, started = time.process_time(), time.perf_counter()
    work()
    returned = time.perf_counter()
    subject.settle()
    settled = time.perf_counter() - started
    return {"seconds": returned - started, "settled": settled, "cpu": time.process_time() - began}


WAYS = {"single": one_by_one, "timed": each_timed, "batch": in_batches}
"""How a block is done, by the first word of its name."""


def keep_plan(plan: Plan, file: Path) -> None:
    """Write a plan for the processes of a group to read."""
    file.write_bytes(msgspec.msgpack.encode(plan))


def kept_plan(file: Path) -> Plan:
    """The plan that was written."""
    return msgspec.msgpack.decode(file.read_bytes(), type=Plan)


def main() -> int:
    """Answer block by block until standard input ends."""
    name, folder, plan_file = sys.argv[1:]
    plan = kept_plan(Path(plan_file))
    keys = [key_of(number) for number in range(plan.sessions)]
    try:
        with opened(KIND[name], Path(folder), keys, plan.most) as subject:
            del keys
            gc.collect()
            gc.freeze()  # what stays would be looked at again and again, by no fault of who is measured
            _say({"ready": subject.live()})
            for line in sys.stdin:
                number, block = json.loads(line)
                done = WAYS[block.split()[0]](subject, plan.rounds[number][block])
                subject.rest()
                _say(done)
    except PeerMissing as error:
        _say({"missing": [error.name, error.why]})
    except ImportError as error:
        _say({"missing": [name, f"not installed: {error}"]})
    return 0


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""One of several processes on one log file: says it is ready, and on the word appends and follows; prints what it saw.

Run as `python log_process.py PATH NAME MESSAGES TOTAL PARTITIONS`; TOTAL is what all processes append together.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading

from lastseen.engine.clock import SystemClock
from lastseen.engine.log.port import Log, Message, Position
from lastseen.engine.log.sqlite.log import SqliteLog
from tests.patience import PATIENCE_S


def follow(log: Log, total: int, seen: list[list[object]], faults: list[str]) -> None:
    """Read until all is read, waiting for each record that is not there yet."""
    ends = [0] * log.partitions
    while sum(ends) < total:
        for partition in range(log.partitions):
            for record in log.read(partition, ends[partition], 17):
                if record.offset != ends[partition]:
                    faults.append(f"offset {record.offset} after {ends[partition] - 1}")
                ends[partition] += 1
                seen.append([*record[:4], (record.value or b"").decode()])
        behind = [p for p, end in enumerate(log.end_offsets()) if end == ends[p]]
        if len(behind) == log.partitions and sum(ends) < total:
            # Every message goes to each partition in turn, so each of them goes on until all is written.
            first = min(range(log.partitions), key=ends.__getitem__)
            if not log.wait(Position(first, ends[first]), PATIENCE_S):
                faults.append(f"no wait returned although {first}:{ends[first]} was there")
                return


def main() -> None:
    path, name, *numbers = sys.argv[1:]
    messages, total, partitions = map(int, numbers)
    print("ready", flush=True)  # noqa: T201 - the parent reads it
    sys.stdin.readline()
    log = SqliteLog(path, SystemClock(), partitions=partitions, lock_timeout_s=30)
    seen: list[list[object]] = []
    faults: list[str] = []
    follower = threading.Thread(target=follow, args=(log, total, seen, faults))
    follower.start()
    answers = []
    for number in range(messages):
        (position,) = log.append([Message(number % partitions, name, f"{name}.{number}".encode())])
        answers.append([*position, f"{name}.{number}"])
    follower.join()
    digest = hashlib.sha256(json.dumps(sorted(seen)).encode()).hexdigest()
    result = {"answers": answers, "seen": len(seen), "digest": digest, "faults": faults, "identity": log.identity}
    log.close()
    print(json.dumps(result), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

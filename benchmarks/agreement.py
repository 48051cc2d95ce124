"""Whether the subjects do the same work: `python -m benchmarks.agreement` holds each against the naive roll.

A figure of an adapter that drops operations would be a figure of nothing. It prints a line of JSON for each kind: what
it disagrees in, or why it is missing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.mix import Mix, Operation
from benchmarks.peers.kinds import KINDS, Kind, opened
from benchmarks.peers.port import Subject
from benchmarks.servers import PeerMissing

SESSIONS, OPERATIONS, BATCH = 60, 400, 50
BY_GUESS = ("theine_cache", "redis_keys")
"""Modules of those that do not drop the least recently used, but one that they take for little used."""
NO_NUMBER = ("redis_keys",)
"""Modules of those that know a limit of memory only."""


def disagreements(kind: Kind, folder: Path) -> Iterator[str]:
    """What a kind of subject does otherwise than the roll. Raises `PeerMissing` or `ImportError`."""
    for way in ("one by one", "in batches"):
        for most, said in ((10 * SESSIONS, "with room"), (SESSIONS, "when full")):
            within = folder / f"{way}, {most}"
            within.mkdir()
            mix = Mix(SESSIONS, seed=5)
            operations = mix.operations(OPERATIONS)
            with opened(kind, within, mix.first, most) as subject:
                _do(subject, operations, 1 if way == "one by one" else BATCH)
                for fault in _faults(kind, subject, mix, operations, most):
                    yield f"{way}, {said}: {fault}"


def _do(subject: Subject, operations: Sequence[Operation], by: int) -> None:
    for start in range(0, len(operations), by):
        if by == 1:
            getattr(subject, operations[start].kind)(operations[start].key)
        else:
            subject.batch(operations[start : start + by])
    subject.settle()


def _faults(kind: Kind, subject: Subject, mix: Mix, operations: Sequence[Operation], most: int) -> Iterator[str]:
    closed = {key for name, key in operations if name == "close"}
    ever = {*mix.first, *(key for _, key in operations)}
    live = {key for key in ever if subject.read(key) is not None}
    if back := live & closed:
        yield f"{len(back)} closed sessions live"
    wanted = ever - closed if most > SESSIONS else {*mix.roll.active, *mix.roll.suspended}
    may_guess = kind.module in BY_GUESS and most == SESSIONS
    if not may_guess and (lost := wanted - live):
        yield f"{len(lost)} sessions that should live do not"
    if gone := set(mix.roll.suspended) - live:
        yield f"{len(gone)} suspended sessions do not live"
    if subject.live() != len(live):
        yield f"it counts {subject.live()} sessions, and shows {len(live)}"
    if kind.module not in NO_NUMBER and len(live) > most + len(mix.roll.suspended):
        yield f"{len(live)} live, and {most} may"


def main() -> int:
    """Look at every kind. The exit code is 1 if one disagrees; one that is missing does not."""
    agree = True
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="agreement-") as name:
            try:
                found = {"disagrees": list(disagreements(kind, Path(name)))}
                agree = agree and not found["disagrees"]
            except (PeerMissing, ImportError) as error:
                found = {"missing": [str(error)]}
        sys.stdout.write(json.dumps({"kind": kind.name, **found}) + "\n")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())

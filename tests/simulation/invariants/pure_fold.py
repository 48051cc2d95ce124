"""The fold depends on the log alone: it calls no clock, no randomness, no environment, no file."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

from lastseen.engine import codec
from lastseen.projections.partition import Partition
from tests.simulation.world import World

SAYS = "the fold reads no clock, configuration or randomness"
EVERY = 8
"""One history in so many is folded under observation: that costs four times as much."""
MODULES = frozenset(
    ["time", "posix", "_random", "random", "datetime", "_io", "io", "secrets", "uuid", "socket", "_socket"]
)
NAMES = frozenset(["now", "today", "utcnow", "getenv", "urandom", "getrandom", "randbytes", "getrandbits", "random"])


def check(world: World) -> Iterator[str]:
    """Fold everything again, with each call into C looked at."""
    if world.plan.seed % EVERY:
        return
    asked: set[str] = set()

    def look(frame: Any, event: str, called: Any) -> None:
        if event == "c_call":
            owner = type(getattr(called, "__self__", None)).__module__
            if called.__module__ in MODULES or owner in MODULES:
                name = called.__name__
                # Reading the record's own time is arithmetic; only the present time is forbidden.
                if name in NAMES or called.__module__ in ("time", "posix", "_io", "_socket"):
                    asked.add(f"{called.__module__}.{name}")

    remembered, codec._remembered = codec._remembered, {}
    try:
        for reference in world.references:
            partition = Partition(reference.partition.number)
            records = [folded.outcome.record for folded in reference.folded]
            before = sys.getprofile()
            # Tools that watch the collector, such as Hypothesis, read the clock in the middle of the fold.
            gc.disable()
            sys.setprofile(look)
            try:
                for record in records:
                    partition.fold(record)
            finally:
                sys.setprofile(before)
                gc.enable()
            if partition.digest != reference.partition.digest:
                yield f"partition {partition.number}: folded again, it has another digest"
    finally:
        codec._remembered = remembered
    for name in sorted(asked):
        yield f"the fold calls {name}"

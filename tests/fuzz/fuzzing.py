"""One interface, a number of inputs, one seed; the input that breaks it is named, and can be tried again alone."""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType

from tests.fuzz.interfaces import INTERFACES
from tests.patience import PATIENCE_S

MOST_BYTES = 64 * 1024 * 1024
"""The most memory that all inputs to an interface may take, at any time."""


LONGEST_S = PATIENCE_S
"""How long an interface may take for one input."""


class Broken(AssertionError):
    """An interface did not hold."""


def fuzz(name: str, folder: Path, seed: int, count: int) -> None:
    """Try `count` inputs at an interface. Raises `Broken`, which says how to try the input again."""
    interface, _ = INTERFACES[name]
    tracemalloc.start()
    try:
        with interface(folder) as take:
            for number in range(count):
                try:
                    with deadline(LONGEST_S):
                        take(Random(f"{seed}/{name}/{number}"))
                except Exception as error:
                    raise Broken(f"{name}: seed {seed}, input {number}: {type(error).__name__}: {error}") from error
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak > MOST_BYTES:
        raise Broken(f"{name}: seed {seed}: {peak} bytes of memory at a time")


@contextmanager
def deadline(within_s: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer, in the main thread; also where it goes round and round in Python."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no response within {within_s} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, within_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

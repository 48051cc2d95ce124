"""Whether a gauge is flat: a robust slope, in the gauge's own unit over the whole window, against what is allowed.

The slope is that of Theil and Sen, the median of the slopes between all pairs of samples: a third of the samples may
be anything without moving it, so a checkpoint, a flush or a noisy neighbour is no growth, and a leak is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

MOST_SAMPLES = 400
"""More are thinned out: pairs grow with the square."""


class Allowed(NamedTuple):
    """How much a gauge may grow in a window: a share of its median, or so much, whichever is more."""

    share: float
    least: float


class Found(NamedTuple):
    """What a gauge did after the warm-up."""

    name: str
    median: float
    lowest: float
    highest: float
    growth: float
    """The slope, over the whole window."""
    allowed: float

    @property
    def is_flat(self) -> bool:
        """Whether it has grown by no more than it may. One that shrinks leaks nothing."""
        return self.growth <= self.allowed


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """By how much (time, value) samples rise between the first and the last, by the slope of Theil and Sen."""
    step = -(-len(samples) // MOST_SAMPLES)
    thinned = samples[::step] if step > 1 else samples
    slopes = [(late[1] - early[1]) / (late[0] - early[0]) for early, late in combinations(thinned, 2)]
    return median(slopes) * (samples[-1][0] - samples[0][0])


def judge(name: str, samples: Sequence[tuple[float, float]], allowed: Allowed) -> Found:
    """What a gauge did. Raises `ValueError` where there are too few samples to tell."""
    if len(samples) < 10:
        raise ValueError(f"{name}: {len(samples)} samples after the warm-up are too few to tell; run for longer")
    values = [value for _, value in samples]
    middle = median(values)
    return Found(
        name, middle, min(values), max(values), growth(samples), max(allowed.share * abs(middle), allowed.least)
    )

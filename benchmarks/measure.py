"""Measuring: interleaved repetitions, medians, spread, and ratios pair by pair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Row:
    """One figure: what was measured, beside what, and what it is to reach."""

    name: str
    value: float
    unit: str
    target: str = ""
    reached: bool | None = None
    spread: tuple[float, float] | None = None
    """The least and the greatest of the repetitions."""
    note: str = ""
    samples: dict[str, list[float]] = field(default_factory=dict)


def seconds(work: Callable[[], Any]) -> float:
    """How long `work` takes, in seconds of real time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(repetitions: int, **works: Callable[[], float]) -> dict[str, list[float]]:
    """Run every work in turn, so often; each returns its own figure. The first round warms up and does not count."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    for repetition in range(repetitions + 1):
        for name, work in works.items():
            figure = work()
            if repetition:
                samples[name].append(figure)
    return samples


def ratio(name: str, samples: dict[str, list[float]], of: str, to: str, at_least: float) -> Row:
    """The median of `of` over `to`, pair by pair: how fast we are in units of the floor, if both are rates."""
    pairs = [one / other for one, other in zip(samples[of], samples[to], strict=True)]
    median = statistics.median(pairs)
    return Row(
        name, median, "×", f"≥ {at_least}", median >= at_least, (min(pairs), max(pairs)),
        f"{statistics.median(samples[of]):,.0f}/s against {statistics.median(samples[to]):,.0f}/s", samples,
    )  # fmt: skip


def rate(name: str, values: list[float], at_least: float) -> Row:
    """A rate in events a second."""
    median = statistics.median(values)
    return Row(name, median, "/s", f"≥ {at_least:,.0f}/s", median >= at_least, (min(values), max(values)))


def at_most(name: str, values: list[float], unit: str, limit: float) -> Row:
    """A figure that must not exceed a limit."""
    median = statistics.median(values)
    return Row(name, median, unit, f"≤ {limit:g} {unit}", median <= limit, (min(values), max(values)))

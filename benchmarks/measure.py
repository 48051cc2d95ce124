"""Measuring: how large, how often, in turn with the others; medians, spread, percentiles, and ratios pair by pair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. A section takes its numbers from here, so that `--quick` concerns all of them alike."""

    name: str
    """`full` or `quick`."""
    repetitions: int
    """How many count; one more warms up."""
    few: int
    """Live sessions where a figure must not depend on their number."""
    middle: int
    """Live sessions where peers are compared."""
    many: int
    """Live sessions at most."""

    @property
    def is_quick(self) -> bool:
        """Whether only ratios are wanted, and soon."""
        return self.name == "quick"


FULL = Size("full", 5, 10_000, 100_000, 1_000_000)
QUICK = Size("quick", 3, 1_000, 10_000, 50_000)


@dataclass(slots=True)
class Row:
    """One figure: what was measured, beside what, and what it is to reach."""

    name: str
    value: float
    unit: str
    target: str = ""
    reached: bool | None = None
    """Whether it reaches its target; `None` where it has none."""
    spread: tuple[float, float] | None = None
    """The least and the greatest of the repetitions."""
    note: str = ""
    samples: dict[str, list[float]] = field(default_factory=dict)
    section: str = ""
    """The letter of the section; put in by those who run it."""
    subject: str = ""
    """Whose figure it is; empty where it compares two."""
    durability: str = ""
    """What a power loss takes, in the same words for all: `nothing`, `the last second`, `everything`."""
    sessions: int = 0
    """How many sessions were live; 0 where that does not matter."""
    missing: str = ""
    """Why there is no figure; `value` means nothing then."""
    percentiles: dict[str, float] = field(default_factory=dict)
    """Of all samples, in µs: `p50`, `p99`, `p99.9`."""
    plot: str = ""
    """The plot that the figure stands in, as a series of its subject; empty where it stands in none."""
    at: str = ""
    """When it was measured (RFC 3339, UTC); put in by those who run the section."""


def missing(name: str, why: str) -> Row:
    """What stands in the place of a peer's figures where it cannot be had."""
    return Row(f"missing: {name}", 0.0, "", subject=name, missing=why)


def seconds(work: Callable[[], Any]) -> float:
    """How long `work` takes, in seconds of real time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(repetitions: int, works: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run every work in turn, so often; each returns its own figure. The first round warms up and does not count.

    Each round begins with another work, so that none has the same neighbour's leftovers before it every time.
    """
    names = list(works)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(repetitions + 1):
        first = repetition % max(len(names), 1)
        for name in names[first:] + names[:first]:
            figure = works[name]()
            if repetition:
                samples[name].append(figure)
    return samples


def interleaved(repetitions: int, **works: Callable[[], float]) -> dict[str, list[float]]:
    """`in_turn`, of works that are named by keyword."""
    return in_turn(repetitions, works)


def pairs(samples: Mapping[str, Sequence[float]], of: str, to: str) -> list[float]:
    """`of` over `to`, repetition by repetition: what disturbs the machine for a while disturbs both."""
    return [one / other for one, other in zip(samples[of], samples[to], strict=True)]


def ratio(name: str, samples: dict[str, list[float]], of: str, to: str, at_least: float | None = None) -> Row:
    """The median of `of` over `to`, pair by pair: how fast we are in units of the floor, if both are rates."""
    found = pairs(samples, of, to)
    median = statistics.median(found)
    return Row(
        name, median, "×", "" if at_least is None else f"≥ {at_least}",
        None if at_least is None else median >= at_least, (min(found), max(found)),
        f"{statistics.median(samples[of]):,.0f}/s against {statistics.median(samples[to]):,.0f}/s",
        {of: samples[of], to: samples[to]},
    )  # fmt: skip


def rate(name: str, values: list[float], at_least: float | None = None) -> Row:
    """A rate in events a second."""
    median = statistics.median(values)
    target, reached = ("", None) if at_least is None else (f"≥ {at_least:,.0f}/s", median >= at_least)
    return Row(name, median, "/s", target, reached, (min(values), max(values)))


def at_most(name: str, values: list[float], unit: str, limit: float) -> Row:
    """A figure that must not exceed a limit."""
    median = statistics.median(values)
    return Row(name, median, unit, f"≤ {limit:g} {unit}", median <= limit, (min(values), max(values)))


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """p50, p99 and p99.9 by nearest rank, each a sample that was really taken. Nothing of no samples."""
    if not samples:
        return {}
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {f"p{share * 100:g}": ordered[min(int(share * len(ordered)), last)] for share in (0.5, 0.99, 0.999)}

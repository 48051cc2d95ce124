"""The guard against gross loss: ratios of the engine to a floor in the same run, held against stored bounds.

Only ratios are guarded, since they are much the same on any machine, and the bounds are generous: about half of what is
usual. So it fails when something has become twice as slow as it was, and not when the machine is busy. What fails is
measured once more before it is believed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Row

BOUNDS = Path(__file__).parent / "bounds.json"


class Bound(NamedTuple):
    """A ratio that is guarded: where it stands, and what it must not be beyond."""

    section: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a measured ratio is within the bound."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def broken_by(self, *values: float) -> str:
        """One sentence: which ratio, what it is to be, what it was."""
        limit = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        measured = " and, measured again, ".join(f"{value:.3g}" for value in values)
        return f"section {self.section}: {self.figure}: it is to be {limit}, and it was {measured}"


def bounds(path: Path = BOUNDS) -> list[Bound]:
    """The stored bounds."""
    return [Bound(**each) for each in json.loads(path.read_text("utf-8"))]


def lost(rows: list[Row], again: Callable[[str], list[Row]], guarded: list[Bound] | None = None) -> list[str]:
    """A sentence for each guarded ratio that does not hold, also when its section is measured once more.

    Sections of which no row was measured are left out (`--only`). A guarded figure that is not there is a loss: a guard
    that looks at nothing must not pass. So only ratios to what needs no server are guarded.
    """
    measured = {row.section for row in rows}
    wanted = [bound for bound in (bounds() if guarded is None else guarded) if bound.section in measured]
    first = {bound: _value(rows, bound) for bound in wanted}
    failed = [bound for bound, value in first.items() if value is None or not bound.holds(value)]
    repeated = {letter: again(letter) for letter in sorted({bound.section for bound in failed})}
    losses = []
    for bound in failed:
        before, after = first[bound], _value(repeated[bound.section], bound)
        if before is None or after is None:
            losses.append(
                f"section {bound.section}: {bound.figure}: no such figure was measured; correct {BOUNDS.name}"
            )
        elif not bound.holds(after):
            losses.append(bound.broken_by(before, after))
    return losses


def _value(rows: list[Row], bound: Bound) -> float | None:
    found = [row.value for row in rows if (row.section, row.name) == (bound.section, bound.figure) and not row.missing]
    return found[0] if found else None

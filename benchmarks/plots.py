"""Plots of the results: bars, one for each subject, as small SVG files that are the same for the same figures."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTS = "benchmarks"
"""The folder of the plots, beside the page."""
OURS, THEIRS = "#1f6f8b", "#b8b8b8"
STYLE = {"svg.hashsalt": "lastseen", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}


def slug(letter: str, name: str) -> str:
    """The name of a plot's file, without its ending: `a-single-calls-100-000-sessions`."""
    return re.sub(r"[^a-z0-9]+", "-", f"{letter} {name}".lower()).strip("-")


def draw(letter: str, rows: list[Row], folder: Path) -> list[Path]:
    """Draw every plot of a section into `folder`; returns the files. Raises `ImportError` without matplotlib."""
    shown = [row for row in rows if row.plot and not row.missing]
    files = []
    for name in dict.fromkeys(row.plot for row in shown):
        file = folder / f"{slug(letter, name)}.svg"
        folder.mkdir(exist_ok=True)
        file.write_text(_svg(name, [row for row in shown if row.plot == name]), "utf-8")
        files.append(file)
    return files


def _svg(name: str, rows: list[Row]) -> str:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    written = io.StringIO()
    with mpl.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(7, 0.9 + 0.3 * len(rows)))
        _bars(axes, name, rows)
        figure.tight_layout()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return re.sub(r"[ \t]+$", "", written.getvalue(), flags=re.MULTILINE)


def _bars(axes: Axes, name: str, rows: list[Row]) -> None:
    places = range(len(rows))
    values = [row.value for row in rows]
    spreads = [row.spread or (row.value, row.value) for row in rows]
    errors = [
        [max(value - least, 0) for value, (least, _) in zip(values, spreads, strict=True)],
        [max(greatest - value, 0) for value, (_, greatest) in zip(values, spreads, strict=True)],
    ]
    colours = [OURS if row.subject.startswith("engine") else THEIRS for row in rows]
    given: dict[str, Any] = {"color": colours, "xerr": errors, "error_kw": {"elinewidth": 0.8, "ecolor": "#555555"}}
    axes.barh(places, values, **given)
    axes.set_yticks(list(places), [row.subject for row in rows])
    axes.invert_yaxis()
    if max(values) > 30 * min(values) > 0:
        axes.set_xscale("log")
        axes.set_xlim(left=10.0 ** (math.ceil(math.log10(min(values))) - 2))  # so that the least is seen as well
    axes.set_xlabel(rows[0].unit)
    axes.set_title(name, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)

"""The results as JSON, where each section can be measured again by itself, and the page that is written from them."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.measure import Row
from benchmarks.plots import PLOTS, slug
from benchmarks.sections import SECTIONS, notes

HEAD = """# Benchmarks

Written by `make bench`; do not edit. Every figure is the median of repetitions, with the least and the greatest beside
it. The repetitions of all subjects of a table were run in turn, after one that warms up and does not count. What counts
are the ratios (×), which were taken repetition by repetition: a machine that is slow for a while is slow for both
sides. Figures in µs and per second are those of the machine below. [benchmarks/README.md](../benchmarks/README.md)
says how to run them, and [decision 11](decisions/0011-benchmark-peers.md) why these peers, with these settings.
"""


def row_of(plain: dict[str, Any]) -> Row:
    """A row that was kept as JSON."""
    spread = plain.get("spread")
    return Row(**{**plain, "spread": None if spread is None else (spread[0], spread[1])})


class Results:
    """All rows that were measured, and for each section when and on what. Kept in one JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self.runs: dict[str, dict[str, Any]] = {}
        if path.exists():
            kept = json.loads(path.read_text("utf-8"))
            if "runs" in kept:
                self.rows, self.runs = [row_of(plain) for plain in kept["rows"]], kept["runs"]

    def put(self, letter: str, rows: list[Row], run: dict[str, Any]) -> None:
        """Rows of one section, in the place of those that it had."""
        order = [section.letter for section in SECTIONS]
        kept = [row for row in self.rows if row.section != letter]
        self.rows = sorted([*kept, *rows], key=lambda row: order.index(row.section))
        self.runs = {each: {**self.runs, letter: run}[each] for each in order if each in {*self.runs, letter}}

    def save(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(exist_ok=True)
        plain = {"runs": self.runs, "rows": [_rounded(asdict(row)) for row in self.rows]}
        self.path.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _rounded(value: Any) -> Any:
    """The same with six digits to each figure: more only make the file long."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value


def number(value: float) -> str:
    """A figure for people: three digits, no more decimals than they hold."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def spread(row: Row) -> str:
    """The least and the greatest, for people."""
    return "" if row.spread is None else f"{number(row.spread[0])} … {number(row.spread[1])}"


def reached(row: Row) -> str:
    """Whether a row reaches its target; nothing where it has none."""
    return "" if row.reached is None else "yes" if row.reached else "no"


def page(results: Results, folder: Path) -> str:
    """The whole page; `folder` is where it will stand, which says which plots there are."""
    lines = [HEAD, *_summary(results.rows)]
    for section in SECTIONS:
        rows = [row for row in results.rows if row.section == section.letter]
        if rows:
            run = results.runs[section.letter]
            said = f"Measured {run['at']} in {run['seconds']:.0f} s on {machine.in_words(run['machine'])}."
            lines += [f"## {section.letter}. {section.title}", "", said, ""]
            lines += [*_table(rows), *_percentiles(rows), *_plots(section.letter, rows, folder)]
            lines += [notes(section) or run.get("notes", ""), ""]
    lines += _versions(results)
    return "\n".join(lines).rstrip() + "\n"


def _summary(rows: list[Row]) -> list[str]:
    wanted = [row for row in rows if row.target]
    short = [row for row in wanted if not row.reached]
    absent = sorted({row.subject for row in rows if row.missing})
    lines = [f"Of {len(wanted)} figures with a target, {len(wanted) - len(short)} reach it."]
    if short:
        lines += ["", "These fall short:", "", *(f"- {row.section}: {row.name}: {_value(row)}, to be {row.target}"
                                                 for row in short)]  # fmt: skip
    if absent:
        lines += ["", f"Missing when it was measured: {', '.join(absent)}."]
    return [*lines, ""]


def _value(row: Row) -> str:
    return "missing" if row.missing else f"{number(row.value)} {row.unit}".strip()


def _table(rows: list[Row]) -> list[str]:
    columns = {
        "figure": [row.name for row in rows],
        "median": [_value(row) for row in rows],
        "least … greatest": [spread(row) for row in rows],
        "target": [row.target for row in rows],
        "reached": [reached(row).replace("no", "**no**") for row in rows],
        "a power loss takes": [row.durability for row in rows],
        "remarks": [row.missing or row.note for row in rows],
    }
    return _markdown({name: cells for name, cells in columns.items() if name == "figure" or any(cells)})


def _percentiles(rows: list[Row]) -> list[str]:
    timed = [row for row in rows if row.percentiles]
    if not timed:
        return []
    columns = {"one operation, µs": [row.name for row in timed]}
    for name in timed[0].percentiles:
        columns[name] = [number(row.percentiles.get(name, 0.0)) for row in timed]
    return _markdown(columns)


def _markdown(columns: dict[str, list[str]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    cells = zip(*columns.values(), strict=True)
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in cells]
    return [*lines, ""]


def _plots(letter: str, rows: list[Row], folder: Path) -> list[str]:
    names = [name for name, _ in groupby(row.plot for row in rows if row.plot)]
    links = [(name, f"{PLOTS}/{slug(letter, name)}.svg") for name in dict.fromkeys(names)]
    return [line for name, link in links if (folder / link).exists() for line in (f"![{name}]({link})", "")]


def _versions(results: Results) -> list[str]:
    lines = ["## Versions", ""]
    for letters, versions in _by_versions(results):
        said = ", ".join(f"{name} {found}" for name, found in versions.items() if found != "missing")
        lines += [f"{', '.join(letters)}: {said}.", ""]
    return lines


def _by_versions(results: Results) -> list[tuple[list[str], dict[str, str]]]:
    found: list[tuple[list[str], dict[str, str]]] = []
    for letter, run in results.runs.items():
        versions = run["machine"]["versions"]
        same = [letters for letters, others in found if others == versions]
        if same:
            same[0].append(letter)
        else:
            found.append(([letter], versions))
    return found

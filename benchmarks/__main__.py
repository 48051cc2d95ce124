"""`python -m benchmarks [--quick] [--only A …] [--page]`: measure, print tables, write the results and the page."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import guard, machine, plots, report
from benchmarks.measure import FULL, QUICK, Row, Size
from benchmarks.sections import SECTIONS, Section, measure, notes

RESULTS = Path(__file__).parent / "results"
PRINTED_WIDTH = 180
"""Columns of a table that goes into a file."""
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main() -> int:
    """Measure. The exit code is 1 if `--quick` finds a guarded ratio lost; the page says what falls short."""
    letters = [section.letter for section in SECTIONS]
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the engine beside its peers.")
    arguments.add_argument("--quick", action="store_true", help="few sessions, and only ratios are looked at")
    arguments.add_argument("--only", nargs="+", choices=letters, metavar="SECTION", help=f"of {', '.join(letters)}")
    arguments.add_argument("--page", action="store_true", help="measure nothing: write the page from the results")
    arguments.add_argument("--folder", default="var", help="where the files go: a disk like the one in production")
    chosen = arguments.parse_args()
    size = QUICK if chosen.quick else FULL
    results = report.Results(RESULTS / ("quick.json" if size.is_quick else "latest.json"))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PRINTED_WIDTH)
    measured: list[Row] = []
    if not chosen.page:
        Path(chosen.folder).mkdir(parents=True, exist_ok=True)
        for section in SECTIONS:
            if section.letter in (chosen.only or unasked(size)):
                measured += run(section, size, Path(chosen.folder), results, console)
    if not size.is_quick:
        write_page(results, redraw=chosen.page)
        return 0
    lost = guard.lost(measured, lambda letter: again(letter, Path(chosen.folder)))
    for loss in lost:
        console.print(f"[red]{loss}[/]", highlight=False)
    console.print("the guarded ratios hold" if not lost else f"{len(lost)} guarded ratios do not hold")
    return 1 if lost else 0


def unasked(size: Size) -> list[str]:
    """The sections that are measured when none is named."""
    return [section.letter for section in SECTIONS if section.in_quick or not size.is_quick]


def run(section: Section, size: Size, folder: Path, results: report.Results, console: Console) -> list[Row]:
    """Measure one section, print its table, and keep its rows: what was measured is not lost to what comes after."""
    started = time.perf_counter()
    doing = console.status(f"measuring {section.letter}: {section.title}")
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as name, doing:
        rows = measure(section, Path(name), size)
    spent = time.perf_counter() - started
    console.print(table(f"{section.letter}. {section.title} ({spent:.0f} s)", rows))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    ran = {"at": at, "size": size.name, "seconds": round(spent, 1), "machine": machine.described()}
    results.put(section.letter, rows, {**ran, "notes": notes(section)})
    results.save()
    if not size.is_quick:
        draw(section.letter, rows)
    return rows


def again(letter: str, folder: Path) -> list[Row]:
    """The rows of a section, measured once more in short."""
    section = next(each for each in SECTIONS if each.letter == letter)
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as name:
        return measure(section, Path(name), QUICK)


def draw(letter: str, rows: list[Row]) -> None:
    """The plots of a section, where matplotlib is installed; those that there are stay otherwise."""
    try:
        plots.draw(letter, rows, PAGE.parent / plots.PLOTS)
    except ImportError:
        sys.stderr.write("matplotlib is missing: the plots are not drawn again\n")


def write_page(results: report.Results, *, redraw: bool) -> None:
    """The page, from all that was measured, now or before."""
    if redraw:
        for letter in results.runs:
            draw(letter, [row for row in results.rows if row.section == letter])
    PAGE.write_text(report.page(results, PAGE.parent), "utf-8")


def table(title: str, rows: list[Row]) -> Table:
    """The rows of a section for a terminal."""
    shown = Table("figure", "median", "least … greatest", "target", "reached", "", title=title, title_justify="left")
    for row in rows:
        colour = {None: "", True: "[green]", False: "[red]"}[row.reached]
        value = "missing" if row.missing else f"{report.number(row.value)} {row.unit}"
        shown.add_row(
            row.name, value, report.spread(row), row.target, colour + report.reached(row), row.missing or row.note
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())
